"""How a request becomes a job that cannot be lost."""
