"""How the stages of an item overlap, and within which bounds."""
