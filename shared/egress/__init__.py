"""The only way out to URLs that users name."""
