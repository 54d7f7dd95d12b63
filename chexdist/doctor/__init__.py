"""What a machine, its ranks and a configuration can't do, before hours are spent: checks, each fault with its cure.

Called by `chexdist doctor` alone, on one rank or on all. It runs what training runs (the process group, the
loader, the step) on a small scale, so it imports every room but `commands`; nothing imports it.
"""
