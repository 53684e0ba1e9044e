"""The machine room of Maskmill: plans, claims and runs shards on a device."""
