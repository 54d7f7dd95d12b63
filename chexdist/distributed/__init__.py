"""Who am I, and where do ranks wait: the world, the process group, every collective of training, heartbeats.

Ranks also wait in DDP, which is constructed in `training.networks` and all-reduces in the backward passes of
`training.step`; `collectives` begins with a list of all places. Here is too what makes ranks equal: the
partition of a batch, and random numbers by index in the global batch. Called by most packages above; imports
`config`.
"""
