"""Promises. The folders mirror the rooms; conformance/ sends whole messages over HTTP."""
