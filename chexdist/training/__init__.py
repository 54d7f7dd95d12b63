"""One start of a run: checks before it, the loop, the only training step, the schedule, what is measured on
the way.

`trainer` is the loop, where the ranks agree on stop signals, evaluations and checkpoints, and act on them;
`step` is one batch. Called by the `train` command; the doctor times its step. Imports packages below it.
"""
