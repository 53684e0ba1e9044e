"""One mixed job of drawn inputs through the whole stack, in one command."""
