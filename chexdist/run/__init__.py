"""The run directory: what its files are called (`layout`), how they are written, checkpoints, and a trained
generator out of one.

No other room spells a name of it. Rank 0 writes. Imports `distributed`, `config`, `metrics` and `gan`.
"""
