"""Real commands, really killed."""
