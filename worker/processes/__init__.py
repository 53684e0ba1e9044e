"""How a worker's processes are started, wired, watched and ended."""
