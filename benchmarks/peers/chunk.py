"""`python -m benchmarks.peers.chunk`, in a peer's environment: trains up to a number of images, and draws.

It continues from the state that the last one left, and replaces it when all is drawn: whoever kills it loses
what one chunk has trained.
"""

import argparse
import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.peers.peer import Draw, Peer
from chexdist.config.tree import Data
from chexdist.data.loader import batches, to_unit_range
from chexdist.data.manifest import Manifest, read_manifest
from chexdist.data.reader import SampleReader

STATE, DRAWN = "state.pt", "drawn.json"
AT_ONCE = 64


def main(arguments: list[str] | None = None) -> int:
    """Train, draw, and leave the state and what was drawn in the folder."""
    top = argparse.ArgumentParser(prog="python -m benchmarks.peers.chunk")
    for name in ("peer", "shards", "folder"):
        top.add_argument(f"--{name}", required=True)
    for name in ("images", "batch", "pictures", "seed"):
        top.add_argument(f"--{name}", type=int, required=True)
    options = top.parse_args(arguments)
    module, _, kind = options.peer.partition(":")
    folder = Path(options.folder)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    manifest = read_manifest(options.shards)
    random.seed(options.seed)
    torch.manual_seed(options.seed)
    peer: Peer = getattr(import_module(module), kind)(manifest.size, len(manifest.splits["train"]), device)
    seconds = 0.0
    if (folder / STATE).exists():
        state = torch.load(folder / STATE, map_location=device, weights_only=True)
        peer.load(state["peer"])
        seconds = state["seconds"]
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    began = clock()
    peer.train(real_batches(manifest, options.seed, options.batch, peer.steps, options.images))
    seconds += clock() - began
    drawn = {
        name: draw_pictures(draw, options.pictures, options.seed, folder / f"{options.images}-{number}")
        for number, (name, draw) in enumerate(peer.draws().items())
    }
    said = {"width": peer.width, "seconds": seconds, "device": device.type, "drawn": drawn}
    torch.save({"peer": peer.state(), "seconds": seconds}, folder / f"{STATE}.new")
    (folder / f"{options.images}-{DRAWN}").write_text(json.dumps(said))
    os.replace(folder / f"{STATE}.new", folder / STATE)
    return 0


def real_batches(manifest: Manifest, seed: int, batch: int, first: int, images: int) -> Iterator[Tensor]:
    """Batches [batch, 1, S, S] in [0, 1], in the order of a run with this seed, from number `first` until so
    many images are seen in all.
    """
    stream = batches(
        SampleReader(manifest, "train", Data().memory),
        seed=seed,
        window=Data().window,
        batch=batch,
        share=range(batch),
        first=first,
        workers=0,
    )
    with closing(stream):
        for t in range(first, images // batch):
            with torch.random.fork_rng(enabled=t == first):  # torch's loader draws a number as it starts
                pixels, _ = next(stream)
            yield (to_unit_range(pixels, manifest.bits, torch.float32) + 1) / 2


@torch.no_grad()
def draw_pictures(draw: Draw, number: int, seed: int, folder: Path) -> str:
    """Gray PNG files of so many images from random numbers of their own; the folder's name."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed + 1)
        drawn = torch.cat([draw(min(AT_ONCE, number - at)).cpu() for at in range(0, number, AT_ONCE)])
    gray = drawn[:, 0].clamp(0, 1).mul(255).round().byte().numpy()
    for i, image in enumerate(gray):
        Image.fromarray(np.ascontiguousarray(image)).save(folder / f"{i:05}.png")
    return folder.name


if __name__ == "__main__":
    raise SystemExit(main())
