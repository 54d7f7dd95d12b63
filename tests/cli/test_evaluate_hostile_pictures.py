"""`chexdist evaluate --pictures` of folders with something in them that can't be measured: it is named."""

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.picture_folders import draw, evaluate
from PIL import Image


def index(folder: Path, *rows: str, head: str = "file,label,audit") -> Path:
    (folder / "index.csv").write_text("\n".join([head, *rows]) + "\n")
    return folder


def bomb(path: Path, side: int = 60_000) -> Path:
    """A small PNG that says it is huge."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + crc

    header = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def cut(path: Path) -> Path:
    path.write_bytes(draw(path).read_bytes()[:-300])
    return path


def transparent(path: Path) -> None:
    Image.new("RGBA", (32, 32)).save(path)


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (32, 32)).save(path, exif=exif)


def animated(path: Path) -> None:
    frames = [Image.new("L", (32, 32), shade) for shade in (0, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def linked(folder: Path) -> None:
    outside = draw(folder.with_name("outside") / "patient.png")
    os.symlink(outside, folder / "link.png")


def linked_folder(folder: Path) -> None:
    outside = draw(folder.with_name("outside") / "patient.png")
    os.symlink(outside.parent, folder / "finding")


def oblong(path: Path) -> None:
    Image.new("L", (32, 33)).save(path)


HOSTILE: dict[str, tuple[Callable[[Path], object], int, tuple[str, ...]]] = {
    "empty": (lambda folder: None, 2, ("no pictures in it",)),
    "text": (lambda folder: (folder / "a.png").write_text("text"), 1, ("a.png", "damaged")),
    "cut": (lambda folder: cut(folder / "a.png"), 1, ("a.png", "damaged")),
    "empty file": (lambda folder: (folder / "a.png").touch(), 1, ("a.png", "damaged")),
    "another format": (lambda folder: draw(folder / "a.png", format="TIFF"), 1, ("a.png", "ending")),
    "bomb": (lambda folder: bomb(folder / "a.png"), 2, ("a.png", "4096")),
    "large": (lambda folder: bomb(folder / "a.png", 5000), 2, ("a.png", "4096")),
    "tiny": (lambda folder: draw(folder / "a.png", side=4), 2, ("a.png", "8 to 4096")),
    "oblong": (lambda folder: oblong(folder / "a.png"), 2, ("a.png", "32 x 33", "square")),
    "two sizes": (
        lambda folder: [draw(folder / f"{side}.png", side=side) for side in (32, 64)],
        2,
        ("32.png", "64.png", "one size"),
    ),
    "transparent": (lambda folder: transparent(folder / "a.png"), 2, ("a.png", "RGBA", "transparency")),
    "turned": (lambda folder: turned(folder / "a.jpg"), 2, ("a.jpg", "EXIF")),
    "animated": (lambda folder: animated(folder / "a.png"), 2, ("a.png", "animation")),
    "DICOM": (lambda folder: (folder / "a.dcm").touch(), 2, ("a.dcm", "generate --format png")),
    "a link": (linked, 2, ("link.png", "link out of the folder")),
    "a link to a folder": (linked_folder, 2, ("finding", "link to a folder")),
    "a pipe": (lambda folder: os.mkfifo(folder / "a.png"), 2, ("a.png", "plain file")),
    "other subfolders": (
        lambda folder: draw(folder / "covid" / "a.png"),
        2,
        ("'covid'", "no_finding, finding"),
    ),
    "beside subfolders": (
        lambda folder: [draw(folder / "finding" / "a.png"), draw(folder / "b.png")],
        2,
        ("b.png", "in no subfolder"),
    ),
    "index, missing picture": (lambda folder: index(folder, "a.png,finding,"), 2, ("line 2", "a.png")),
    "index, outside": (
        lambda folder: [draw(folder.with_name("outside.png")), index(folder, "../outside.png,finding,")],
        2,
        ("line 2", "../outside.png"),
    ),
    "index, DICOM": (lambda folder: index(folder, "a.dcm,finding,"), 2, ("line 2", "export PNG")),
    "index, class": (
        lambda folder: [draw(folder / "a.png"), index(folder, "a.png,covid,")],
        2,
        ("line 2", "'covid'", "no_finding, finding"),
    ),
    "index, twice": (
        lambda folder: [draw(folder / "a.png"), index(folder, "a.png,finding,", "a.png,finding,")],
        2,
        ("line 3", "twice"),
    ),
    "index, some classes": (
        lambda folder: [
            draw(folder / "a.png"),
            draw(folder / "b.png"),
            index(folder, "a.png,finding,", "b.png,,"),
        ],
        2,
        ("b.png has no class",),
    ),
    "index, columns": (
        lambda folder: [draw(folder / "a.png"), index(folder, "a.png,finding", head="name,class")],
        2,
        ("columns file and label",),
    ),
    "index, short row": (
        lambda folder: [draw(folder / "a.png"), index(folder, "a.png")],
        2,
        ("line 2", "missing"),
    ),
    "index, not text": (
        lambda folder: (folder / "index.csv").write_bytes(b"\xff\xfe\x00"),
        2,
        ("index.csv",),
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_can_t_be_measured_is_named(
    case: str, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, code, expected = HOSTILE[case]
    folder = tmp_path / "pictures"
    folder.mkdir()
    make(folder)
    if "index" not in case and "empty" != case:
        for number in range(4 if "subfolders" not in case and case != "two sizes" else 0):
            draw(folder / f"sound-{number}.png", number)
    assert evaluate(folder, shards) == code
    out, err = capsys.readouterr()
    problem = err.splitlines()[-1]
    assert out == "" and problem.startswith("chexdist: ") and "Traceback" not in err
    assert [part for part in expected if part not in problem] == [], err
    assert not list(tmp_path.glob("*-evaluation"))
