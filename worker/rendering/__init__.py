"""How instances become files: drawn, encoded, put together as artifacts."""
