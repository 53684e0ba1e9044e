"""`python -m maskmill` is the command `maskmill`."""

from maskmill.cli import main

main()
