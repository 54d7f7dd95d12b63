"""Raw chest X-rays -> WebDataset tar shards and their manifest, the `chexdist-shards` command. No torch."""
