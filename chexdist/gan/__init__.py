"""The mathematics: models, losses, penalties, clips, augmentations. Each is a file with its formula and a
line in its registry.

Pure: no rank, no file, no choice of device. Called by `training` and by whoever builds a network. Imports
torch and nothing of ours."""
