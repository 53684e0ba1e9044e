"""The HTTP client of the API in Python, and the commands that use it."""
