"""The Document Registry: what is known about documents. Speaks metadata, never XML or HTTP."""
