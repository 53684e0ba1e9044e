"""What a bulk worker does when the bell rings: claim shards, run their items, commit their outcomes."""
