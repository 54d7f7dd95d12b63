"""From a shard directory to the exact sequence of training batches."""
