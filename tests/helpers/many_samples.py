"""A shard directory of many samples that takes no time to make."""

import hashlib
import io
import json
import tarfile
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from shards import manifest


def write_many(folder: Path, shards: int, samples: int) -> Path:
    """A shard directory of 64 px whose index names the one picture of each shard `samples` times."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(file, "png")
    png = file.getvalue()
    splits = {
        "train": [
            _shard(folder, f"train-{number:06d}.tar", png, number, samples) for number in range(shards)
        ],
        "val": [_shard(folder, "val-000000.tar", png, shards, samples)],
        "test": [],
    }
    render = {
        "version": 1,
        "size": 64,
        "bits": 8,
        "resize": "area",
        "square": "pad",
        "dicom": "",
        "raster": "",
    }
    build = {
        "seed": 0,
        "split": {"train": 0.9, "val": 0.1, "test": 0.0},
        "samples_per_shard": samples,
        "per_class": None,
        "patients": "file",
        "duplicates": {"method": "none", "threshold": 0.0, "clusters": 0},
        "part": {"index": 0, "count": 1},
        "key_id": "0" * 8,
    }
    content = manifest.Manifest(
        render={**render, "png_level": 6},
        classes=["finding", "no_finding"],
        build=build,
        splits={name: manifest.Split.of(found, 2, "0" * 64) for name, found in splits.items()},
        quarantine={"total": 0, "codes": {}},
    )
    # not manifest.write: to validate 100,000 samples takes half a minute
    entries = asdict(content)
    entries["sha256"] = manifest.own_digest(entries)
    (folder / manifest.FILE).write_text(json.dumps(entries))
    return folder


def _shard(folder: Path, name: str, png: bytes, number: int, samples: int) -> manifest.Shard:
    with tarfile.open(folder / name, "w") as archive:
        member = tarfile.TarInfo("picture.png")
        member.size = len(png)
        archive.addfile(member, io.BytesIO(png))
    with tarfile.open(folder / name) as archive:
        offset = archive.getmembers()[0].offset_data
    content = (folder / name).read_bytes()
    keys = [hashlib.sha256(f"{number} {sample}".encode()).hexdigest()[:16] for sample in range(samples)]
    index = manifest.Index(
        key=keys,
        offset=[offset] * samples,
        size=[len(png)] * samples,
        crc32=[zlib.crc32(png)] * samples,
        label=[sample % 2 for sample in range(samples)],
        patient=keys,
        cluster=keys,
    )
    digest = hashlib.sha256(content).hexdigest()
    return manifest.Shard(name, samples, len(content), digest, [samples // 2] * 2, index)
