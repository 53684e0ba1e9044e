"""The embedded model `shapes`: the pictures it learns from, the network, its training and its measurement."""
