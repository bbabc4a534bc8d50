"""The Document Repository: the documents' bytes. Speaks metadata, never XML or HTTP."""
