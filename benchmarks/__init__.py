"""Every figure docs/figures.md quotes, one program each."""
