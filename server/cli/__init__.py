"""The commands of `toimik`, one file each; server/__main__.py lists them."""
