"""Which models there are by name, and how new ones come to this machine."""
