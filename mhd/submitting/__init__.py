"""From a Bundle to a submission of XDS, and from its outcome to the answer."""
