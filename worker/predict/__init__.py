"""How pictures are segmented without a queue: create_pipeline, and the processes of its devices."""
