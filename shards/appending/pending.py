"""How new shards get into a set that stays valid all the while: first their files, then its manifest at once.

Until then the note `pending.json` in DIR.work says which files of DIR are not in the manifest yet, so that
`verify` knows them, and the next append takes them back. A kill leaves the old set or the new one.
"""

import json
from collections.abc import Mapping
from os import rename
from pathlib import Path

from shards import manifest
from shards.errors import UserError
from shards.files import flush_to_disk, replace_file

NOTE = "pending.json"


def noted(out: Path) -> dict[str, str]:
    """The files of an append to `out` that has not ended, with their SHA-256; none where there is no note."""
    try:
        found = json.loads((Path(f"{out.resolve()}.work") / NOTE).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def place(folder: Path, out: Path, files: Mapping[str, str]) -> None:
    """Move the shards `files` (with their SHA-256), and then the manifest, from `folder` to `out`."""
    note = Path(f"{out}.work") / NOTE
    replace_file(note, json.dumps(dict(files)), flush=True)
    for file in files:
        rename(folder / file, out / file)
    flush_to_disk(out)
    rename(folder / manifest.FILE, out / manifest.FILE)
    flush_to_disk(out)
    note.unlink()


def take_back(folder: Path, out: Path) -> None:
    """Move to `folder` what an append that was stopped left in `out`.

    Raises UserError where `out` holds what neither its manifest nor such an append knows.
    """
    note = Path(f"{out}.work") / NOTE
    for partial in note.parent.glob(".*.partial-*"):
        partial.unlink()
    listed = {shard.file for split in manifest.read(out).splits.values() for shard in split.shards}
    for file in noted(out).keys() - listed:
        if (out / file).exists():
            rename(out / file, folder / file)
    note.unlink(missing_ok=True)
    if strange := sorted(path.name for path in out.iterdir() if path.name not in {*listed, manifest.FILE}):
        raise UserError(
            f"{out / strange[0]} is not in the manifest: `chexdist-shards verify {out}` lists such files; "
            "remove them, then append"
        )
