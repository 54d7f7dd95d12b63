"""Decides which images are measured: generated, held-out real, and training images as the real baseline.

Called by `training` (while it trains), `commands.evaluate` and benchmarks. Knows every metric by
`metrics.METRICS` alone. Imports `run` and what is below it; the formulae are in `metrics`.
"""
