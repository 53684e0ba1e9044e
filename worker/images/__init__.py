"""How bytes become pixels, format by format."""
