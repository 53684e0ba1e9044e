"""Several parts with real services."""
