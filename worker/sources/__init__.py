"""Where inputs come from, what their pages are, and what their results are called."""
