"""Raw chest X-rays -> WebDataset tar shards and their manifest: the `chexdist-shards` command.

Decides which images are used, what an X-ray looks like as a picture, which patient and split it belongs to,
and the bytes of every shard. `__main__` parses; `build` is the way down: sources and labels -> scan -> plan
-> write. People call it by its command. `chexdist` reads what it wrote, and imports `files`, `progress`
and the version alone; nothing here imports `chexdist` or torch.
"""

__version__ = "0.1.0"
"""Of both packages, written here only."""
