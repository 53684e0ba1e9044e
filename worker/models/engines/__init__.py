"""What runs a graph on a device."""
