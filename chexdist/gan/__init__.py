"""The mathematics: models, losses, penalties, clips, augmentations. Each is a file with its formula and a
line in its registry.

Pure: no rank, no file of a user, no choice of device. Called by whoever builds a network or computes a
gradient: `config` (names alone), `run`, `training`, `doctor`. Imports torch and nothing of ours.
"""
