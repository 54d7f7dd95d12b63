"""Raw chest X-rays -> WebDataset tar shards and their manifest, the `chexdist-shards` command. No torch."""

__version__ = "0.1.0"
"""Of both packages: the only place where it is written."""
