"""Who am I, and where do ranks wait: the world, the process group, every collective of training, heartbeats.

Also what makes ranks equal: the partition of a batch, and random numbers by index in the global batch. Called
by every room above; imports `config` and `errors`."""
