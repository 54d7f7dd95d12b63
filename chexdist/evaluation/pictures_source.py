"""Decides how a folder of pictures, whoever made them, becomes images that are measured.

Their classes are those of `index.csv`, as `chexdist generate` writes it, or of subfolders named as the
shards' classes; else they have none. Nothing is passed over in silence, and no file is read that the folder
only links to.
"""

import csv
import hashlib
import io
import os
import stat
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from chexdist.config.tree import Config
from chexdist.errors import UserError, WorkError
from chexdist.metrics.preprocess import resize

SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
DICOM = (".dcm", ".dicom")
INDEX = "index.csv"
MOST_INDEX_BYTES = 1 << 26
MOST_PICTURES = 200_000
SMALLEST, LARGEST = 8, 4096
"""Sides of a picture in pixels; a larger one is refused by its header, before it is decoded."""
SHOWN = 5
"""Names of files that a remark gives."""
MODES = ("1", "L", "P", "RGB", "I;16", "I")
ORIENTATION = 0x0112  # EXIF
DAMAGE = (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error, zlib.error)
"""What the decoders raise."""


@dataclass(frozen=True)
class Pictures:
    """The pictures of a folder by name, and their classes: one for each, or None for all.

    unused: files beside them that are no part of it; side: pixels, those of all; sha256: of names and
    contents.
    """

    folder: Path
    files: tuple[Path, ...]
    labels: np.ndarray | None
    unused: tuple[str, ...]
    side: int
    sha256: str


def read_pictures(folder: Path, classes: tuple[str, ...]) -> Pictures:
    """What is in a folder; the header of every picture is read.

    Raises:
        UserError: there is no such folder, or it holds what can't be measured.
        WorkError: a picture is unreadable.
    """
    try:
        if not folder.is_dir():
            raise UserError(f"--pictures {folder}: there is no such folder")
        found, unused = _walk(folder)
    except OSError as error:
        raise UserError(f"--pictures {error.filename or folder}: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"--pictures {str(folder)!r:.200}: {error}") from None
    names = sorted(found)
    if INDEX in unused:
        names, labels = _by_index(folder, found, classes)
        unused = sorted({*unused, *found} - {*names, INDEX})
    else:
        labels = _by_subfolder(folder, names, classes)
    if not names:
        raise UserError(
            f"--pictures {folder}: there are no pictures in it; give a folder of .png or .jpg files"
        )
    if len(names) > MOST_PICTURES:
        raise UserError(
            f"--pictures {folder}: {len(names)} pictures; {MOST_PICTURES} can be measured at once"
        )
    files = tuple(found[name] for name in names)
    sides: dict[int, Path] = {}
    digest = hashlib.sha256()
    for name, file in zip(names, files, strict=True):
        content = _content(file)
        digest.update(name.encode(errors="surrogateescape") + b"\0" + hashlib.sha256(content).digest())
        with _opened(file, content, verify=True) as image:
            sides.setdefault(image.width, file)
    if len(sides) > 1:
        (one, first), (other, second) = [*sides.items()][:2]
        raise UserError(
            f"--pictures {folder}: {first.name} is {one} px wide and {second.name} {other} px: pictures of "
            "one generator have one size; bring them to one size first"
        )
    return Pictures(folder, files, labels, tuple(unused), next(iter(sides)), digest.hexdigest())


def _walk(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Pictures by their names within the folder, and the names of other files; hidden ones are left out."""
    root = os.path.realpath(folder)
    found: dict[str, Path] = {}
    unused: list[str] = []
    for where, subfolders, files in os.walk(folder, onerror=_raise):
        links = [name for name in subfolders if os.path.islink(os.path.join(where, name))]
        if links:
            raise UserError(
                f"--pictures {where}/{links[0]}: a link to a folder is not followed; copy it here"
            )
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for file in sorted(files):
            path = Path(where, file)
            name = path.relative_to(folder).as_posix()
            suffix = path.suffix.lower()
            if file.startswith("."):
                continue
            if suffix in DICOM:
                raise UserError(
                    f"--pictures {path}: DICOM is not read here; export the pictures as PNG, such as by "
                    "`chexdist generate --format png`"
                )
            if os.path.commonpath([root, os.path.realpath(path)]) != root:
                raise UserError(f"--pictures {path}: a link out of the folder is not followed; copy the file")
            if suffix not in SUFFIXES:
                unused.append(name)
            elif not stat.S_ISREG(os.stat(path).st_mode):
                raise UserError(f"--pictures {path} is not a plain file")
            else:
                found[name] = path
    return found, unused


def _raise(error: OSError) -> None:
    raise error


def class_key(name: str) -> str:
    """A class as the shards write it: lower case, spaces and dashes as `_`."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _by_subfolder(folder: Path, names: list[str], classes: tuple[str, ...]) -> np.ndarray | None:
    """The class of each picture by the folder it is in; None where all are in no subfolder."""
    numbers = {class_key(name): number for number, name in enumerate(classes)}
    tops = [name.partition("/")[0] if "/" in name else None for name in names]
    if not any(tops):
        return None
    for name, top in zip(names, tops, strict=True):
        if top is None:
            raise UserError(
                f"--pictures {folder}: {name} is in no subfolder, others are: put all into one folder, or "
                f"each into that of its class: {', '.join(classes)}"
            )
        if class_key(top) not in numbers:
            raise UserError(
                f"--pictures {folder}: subfolder {top!r:.80} is no class of the shards; subfolders must be "
                f"named {', '.join(classes)}"
            )
    return np.array([numbers[class_key(top or "")] for top in tops], np.int64)


def _by_index(
    folder: Path, found: dict[str, Path], classes: tuple[str, ...]
) -> tuple[list[str], np.ndarray | None]:
    """Names in order and classes of the pictures that the index lists; a row without a file is of a picture
    that was not kept.
    """
    path = folder / INDEX
    try:
        if path.stat().st_size > MOST_INDEX_BYTES:
            raise UserError(f"{path} is larger than {MOST_INDEX_BYTES >> 20} MiB: it is no index of pictures")
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} can't be read: {error}") from None
    if rows and not {"file", "label"} <= rows[0].keys():
        raise UserError(f"{path} must have the columns file and label, as `chexdist generate` writes them")
    numbers = {class_key(name): number for number, name in enumerate(classes)}
    labels: dict[str, int | None] = {}
    for line, row in enumerate(rows, 2):
        name, label = row["file"], row["label"]
        if name is None or label is None:
            raise UserError(f"{path}, line {line}: file or label is missing")
        if not name:
            continue
        if name not in found:
            dicom = name.lower().endswith(DICOM)
            cure = "DICOM is not read here; export PNG" if dicom else "there is no such picture in the folder"
            raise UserError(f"{path}, line {line}: {name!r:.200}: {cure}")
        if name in labels:
            raise UserError(f"{path}, line {line}: {name} is listed twice")
        if label and class_key(label) not in numbers:
            raise UserError(
                f"{path}, line {line}: class {label!r:.80} is none of the shards: {', '.join(classes)}"
            )
        labels[name] = numbers[class_key(label)] if label else None
    names = sorted(labels)
    given = {labels[name] is None for name in names}
    if len(given) > 1:
        without = next(name for name in names if labels[name] is None)
        raise UserError(f"{path}: {without} has no class, others do: give each a class, or none")
    if given != {False}:
        return names, None
    return names, np.array([labels[name] for name in names], np.int64)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise WorkError(f"picture {file} can't be read: {error.strerror or error}") from None


def _opened(file: Path, content: bytes, verify: bool = False) -> Image.Image:
    """The picture, not decoded yet; `verify`: the checksums in it too, after which it can't be decoded.

    Raises:
        UserError: it is not square, too small or large, an animation, see-through or turned.
        WorkError: it is no picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=[SUFFIXES[file.suffix.lower()]])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(f"picture {file} is larger than {LARGEST} px") from None
    except DAMAGE as error:
        raise _damaged(file, error) from None
    width, height = image.size
    wrong = ""
    if width != height:
        wrong = (
            f"is {width} x {height} px: pictures must be square; crop them, or add borders as the shards have"
        )
    elif not SMALLEST <= width <= LARGEST:
        wrong = f"has a side of {width} px: it must be {SMALLEST} to {LARGEST}"
    elif getattr(image, "n_frames", 1) > 1:
        wrong = "is an animation: give its frames as files"
    elif image.mode not in MODES or "transparency" in image.info:
        wrong = f"has pixels of mode {image.mode}: save it as gray or RGB, without transparency"
    elif image.format == "JPEG" and image.getexif().get(ORIENTATION, 1) != 1:
        wrong = "is turned by its EXIF orientation: save it upright"
    if wrong:
        raise UserError(f"picture {file} {wrong}")
    try:
        if verify:
            image.verify()
    except DAMAGE as error:
        raise _damaged(file, error) from None
    return image


def _damaged(file: Path, error: Exception) -> WorkError:
    reason = "not what its ending says" if isinstance(error, UnidentifiedImageError) else str(error)
    return WorkError(f"picture {file} is damaged: {reason}; make it again, or take it away")


def read_picture(file: Path) -> Tensor:
    """A picture [1, 1, S, S] in [-1, 1], float32; 16 bits where it is gray and has them, RGB as its luma.

    Raises UserError and WorkError as `_opened` does, also for pixels that can't be decoded.
    """
    content = _content(file)
    with _opened(file, content) as image:
        try:
            if image.mode in ("I;16", "I"):
                pixels, white = np.asarray(image).astype(np.int64), 65535
            else:
                pixels, white = np.asarray(image.convert("L")).astype(np.int64), 255
        except DAMAGE as error:
            raise _damaged(file, error) from None
    if pixels.max() > white or pixels.min() < 0:
        raise UserError(f"picture {file} has more than 16 bits a pixel: save it with 8 or 16")
    return (torch.from_numpy(pixels).to(torch.float32) / white * 2 - 1)[None, None]


class PicturesSource:
    """Pictures in an order that the seed decides, so that the first ones are a fair choice."""

    config: Config | None = None

    def __init__(
        self, pictures: Pictures, classes: int, size: int, images: int, seed: int, device: torch.device
    ) -> None:
        """`size`: the shards' side in pixels; `images`: training images that the generator has seen, or 0."""
        self.pictures, self.size, self.images, self.device = pictures, size, images, device
        self._order = np.random.Generator(np.random.Philox(seed)).permutation(len(pictures.files))
        labels = pictures.labels
        self.without = [] if labels is None else [each for each in range(classes) if each not in labels]
        self.conditional = labels is not None and not self.without
        self._of_class = {
            label: self._order[labels[self._order] == label] for label in range(classes) if labels is not None
        }

    @property
    def brought_from(self) -> int | None:
        """See `Source.brought_from`."""
        return None if self.pictures.side == self.size else self.pictures.side

    def remarks(self, classes: tuple[str, ...]) -> list[str]:
        """What a reader must know of the pictures before their numbers; `classes` are the shards'."""
        pictures, folder = self.pictures, self.pictures.folder
        found = [f"{folder}: {len(pictures.files)} pictures, " + self._known(classes)]
        if self.without:
            names = ", ".join(classes[each] for each in self.without)
            found.append(f"{folder}: no picture is of class {names}, so nothing is measured by class")
        if self.brought_from:
            found.append(
                f"{folder}: pictures of {self.brought_from} px are brought to the shards' {self.size} px, as "
                "their protocol says: their numbers are compared with those of such pictures only"
            )
        if pictures.unused:
            few, count = ", ".join(map(repr, pictures.unused[:SHOWN])), len(pictures.unused)
            more = ", ..." if count > SHOWN else ""
            found.append(f"{folder}: {count} other files are not measured: {few}{more}")
        return found

    def _known(self, classes: tuple[str, ...]) -> str:
        labels = self.pictures.labels
        if labels is None:
            return "of no class"
        counts = np.bincount(labels, minlength=len(classes))
        return ", ".join(f"{count} {name}" for name, count in zip(classes, counts.tolist(), strict=True))

    def draw(self, rows: range, label: int | None) -> Tensor:
        """See `Source.draw`; a picture of another size is brought to the shards' by `preprocess.resize`."""
        chosen = self._chosen(label)[rows.start : rows.stop]
        read = [resize(read_picture(self.pictures.files[number]), self.size) for number in chosen]
        return torch.cat(read).clamp(-1, 1).to(self.device)

    def labels(self, rows: range) -> Tensor:
        """See `Source.labels`."""
        if self.pictures.labels is None or not self.conditional:
            return torch.zeros(len(rows), dtype=torch.int64)
        return torch.from_numpy(self.pictures.labels[self._order[rows.start : rows.stop]])

    def available(self, label: int | None) -> int | None:
        """See `Source.available`."""
        return len(self._chosen(label))

    def _chosen(self, label: int | None) -> np.ndarray:
        return self._order if label is None else self._of_class[label]
