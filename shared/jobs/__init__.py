"""What a job is, as it is stored and sent, and what lies where in its storage."""
