"""Launch files, found by name in an installed package too: `accelerate/` and `slurm/`."""
