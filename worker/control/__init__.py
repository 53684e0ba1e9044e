"""What happens to a job beside its shards: it is planned, swept up after, finalized."""
