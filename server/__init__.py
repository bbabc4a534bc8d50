"""The rim: HTTP, SOAP endpoints, settings, wiring, command line."""
