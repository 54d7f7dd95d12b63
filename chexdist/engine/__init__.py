"""The training engine: one step, one loop, checkpoints, evaluation, and the agreements between ranks."""
