"""What people type: a file for each `chexdist` command, with its function `run`; `parser` has their options.

A command checks its options, calls the packages below and prints; it decides nothing that a run is made of.
Only `chexdist.__main__` may call it. It may import every package, but what loads torch or numpy only inside
functions, so that `--help` and mistakes are answered at once.
"""
