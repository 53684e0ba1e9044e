"""Model packages and families."""
