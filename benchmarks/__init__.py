"""Every figure the README quotes, one program each."""
