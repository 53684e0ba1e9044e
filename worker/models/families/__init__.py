"""The kinds of models, one file each; none knows another."""
