"""The architecture itself."""
