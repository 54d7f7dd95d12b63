"""What a shard directory says about itself: the manifest's fields, and how it is written, read and validated.

The file holds no time, host, path or source name. It is written last: where it is, the directory is
complete. Its JSON Schema is `manifest.schema.json` beside this module.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from shards import __version__
from shards.errors import UserError, WorkError
from shards.files import replace_file

FILE = "manifest.json"
SCHEMA = 1
CREATED_BY = f"chexdist-shards {__version__}"
MAX_BYTES = 2**30


@dataclass(frozen=True)
class Index:
    """Parallel lists, one entry per sample in tar order; offset and size are of `KEY.png` within the tar."""

    key: list[str]
    offset: list[int]
    size: list[int]
    crc32: list[int]
    label: list[int]
    patient: list[str]
    cluster: list[str]


@dataclass(frozen=True)
class Shard:
    """One tar: `classes` counts its samples by label."""

    file: str
    samples: int
    bytes: int
    sha256: str
    classes: list[int]
    index: Index


@dataclass(frozen=True)
class Split:
    """The shards of train, val or test, what they add up to, and the digest of what they hold besides names.

    `content_sha256` (see `content.split_digest`) is None in manifests of earlier releases.
    """

    samples: int
    patients: int
    classes: list[int]
    shards: list[Shard]
    content_sha256: str | None = None

    @classmethod
    def of(cls, shards: list[Shard], classes: int, content_sha256: str | None) -> "Split":
        """The split that consists of `shards`."""
        return cls(
            samples=sum(shard.samples for shard in shards),
            patients=len({patient for shard in shards for patient in shard.index.patient}),
            classes=[sum(shard.classes[label] for shard in shards) for label in range(classes)],
            shards=shards,
            content_sha256=content_sha256,
        )


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A shard directory; a class's index in `classes` is its label.

    `sha256`: of the rest, by `encoded`; None in manifests of earlier releases. `write` fills it in.
    """

    schema: int = SCHEMA
    created_by: str = CREATED_BY
    render: dict[str, Any]
    classes: list[str]
    build: dict[str, Any]
    splits: dict[str, Split]
    quarantine: dict[str, Any]
    sha256: str | None = None


def clusters_of_several(splits: Mapping[str, Split]) -> int:
    """How many near-duplicate clusters have more than one image."""
    sizes = Counter(
        cluster for split in splits.values() for shard in split.shards for cluster in shard.index.cluster
    )
    return sum(size > 1 for size in sizes.values())


def encoded(content: dict[str, Any]) -> bytes:
    """The JSON of a manifest, in the one form in which it is written."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def own_digest(content: dict[str, Any]) -> str:
    """SHA-256 of a manifest's content without its `sha256`."""
    rest = {name: value for name, value in content.items() if name != "sha256"}
    return hashlib.sha256(encoded(rest)).hexdigest()


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into `folder`, under its name only when it is complete and on disk."""
    content = asdict(manifest)
    content["sha256"] = own_digest(content)
    validate(content)
    replace_file(folder / FILE, encoded(content) + b"\n", flush=True)


def read(folder: Path) -> Manifest:
    """The manifest of a shard directory.

    Raises UserError when `folder` is no shard directory, WorkError when its manifest is damaged.
    """
    path = folder / FILE
    try:
        if path.stat().st_size > MAX_BYTES:
            raise WorkError(f"{path} is larger than {MAX_BYTES} bytes: not a manifest")
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder} is not a finished shard directory: it has no {FILE}") from None
    except OSError as error:
        raise WorkError(f"can't read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise WorkError(f"{path} is not JSON: {error}") from None
    validate(content)
    splits = {name: _split(split) for name, split in content["splits"].items()}
    return Manifest(**{**content, "splits": splits})


def validate(content: Any) -> None:
    """Raise WorkError that names the first entry that breaks the schema."""
    import jsonschema

    schema = json.loads(resources.files("shards").joinpath("manifest.schema.json").read_bytes())
    draft = jsonschema.Draft202012Validator
    whole = draft.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)  # 1.0 is no index
    validator = jsonschema.validators.extend(draft, type_checker=whole)(schema)
    error = jsonschema.exceptions.best_match(validator.iter_errors(content))
    if error is not None:
        where = "/".join(map(str, error.absolute_path)) or "the top"
        raise WorkError(f"{FILE}, at {where}: {error.message[:200]}")


def _split(content: dict[str, Any]) -> Split:
    shards = [Shard(**{**shard, "index": Index(**shard["index"])}) for shard in content["shards"]]
    return Split(**{**content, "shards": shards})
