"""One start of a run: what is checked before it, the loop, the only training step, the schedule, validation
while it trains.

Called by the `train` command. Imports every room below it.
"""
