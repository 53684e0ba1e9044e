"""The HTTP side of Maskmill: jobs in, names and artifacts out."""
