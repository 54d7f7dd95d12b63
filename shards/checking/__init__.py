"""What is said of a finished shard directory: its digests verified, its counts, a contact sheet."""
