"""What a machine, its ranks and a configuration can't do, before hours are spent: checks, each with its cure.

Called by `commands.doctor` alone, on one rank or on all. It runs what training runs (the process group, the
reading of samples, the step) on a small scale: it imports `training`, `run`, `data`, `distributed`, `config`
and `gan`.
"""
