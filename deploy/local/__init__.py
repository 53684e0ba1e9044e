"""Everything on one machine, with one command."""
