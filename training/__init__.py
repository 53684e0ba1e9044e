"""Programs that train the models of this project."""
