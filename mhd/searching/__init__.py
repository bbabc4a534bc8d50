"""From the parameters of a search to conditions on XDS metadata, and from what is found to pages of a Bundle."""
