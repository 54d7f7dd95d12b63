"""The same bytes, whatever the order of files on disk, locale, time zone, workers and hash seed are."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from helpers.xray_files import contents, dicom, smooth, write_dicom, write_png

from shards.__main__ import main

OPTIONS = ["--size", "24", "--samples-per-shard", "5", "--split", "train=0.5,val=0.25,test=0.25"]
LOCALES = ["C", "C.UTF-8", "POSIX"]
COMPILED = [("de_DE", "UTF-8"), ("tr_TR", "UTF-8"), ("de_DE", "ISO-8859-1"), ("tr_TR", "ISO-8859-9")]
"""Languages and charsets that Debian's package locales has the sources of."""
ZONES = ["UTC", "Asia/Tokyo", "America/St_Johns", "Pacific/Kiritimati"]


def write_sources(root: Path, order: random.Random | None) -> Path:
    """The same files, made in another order: pictures and DICOM, with names that locales sort otherwise."""
    names = ["a", "B", "Z", "i", "I", "İ", "ı", "ü", "z", "~", "日", "😀", "10", "9", "_", "ä b"]
    files = [(f"{'ab'[n % 2]}/{name}{n // 8}", n) for n, name in enumerate(names * 2)]
    if order:
        order.shuffle(files)
    for name, number in files:
        if number % 3:
            write_png(root / f"{name}.png", number)
        else:
            values = (smooth(number) * 4095).astype(np.uint16)
            header = {"PatientID": "", "StudyInstanceUID": f"1.2.{number // 6}"}
            write_dicom(root / f"{name}.dcm", dicom(values, 12, **header))
    return root


def build_apart(source: Path, out: Path, workers: int, **environment: str) -> dict[str, bytes]:
    """Build in a program of its own; the bytes of the set."""
    Path(f"{out}.key").write_text("5e" * 32)
    command = [sys.executable, "-m", "shards", "build", str(source), "--out", str(out), *OPTIONS]
    done = subprocess.run(
        [*command, "--workers", str(workers)],
        check=False,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return contents(out)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sources(tmp_path_factory.mktemp("sources") / "in", None)


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    found = build_apart(source, tmp_path_factory.mktemp("first") / "out", 1, LC_ALL="C.UTF-8", TZ="UTC")
    assert len(found) > 4
    return found


@pytest.mark.parametrize("number", range(len(LOCALES)))
def test_locale_zone_workers_and_hash_seed(
    number: int, source: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """Also where file names are bytes that the locale does not know."""
    environment = {"LC_ALL": LOCALES[number], "TZ": ZONES[number % len(ZONES)], "PYTHONHASHSEED": str(number)}
    plain = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"} if number % 2 == 0 else {}
    assert build_apart(source, tmp_path / "out", 1 + number % 3, **environment, **plain) == expected


@pytest.mark.skipif(not Path("/usr/share/i18n/locales/tr_TR").exists(), reason="no sources of locales here")
@pytest.mark.parametrize(("language", "charset"), COMPILED)
def test_locales_of_other_languages_and_charsets(
    language: str, charset: str, source: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """Sorting, case and the encoding of file names are another's there."""
    name = f"{language}.{charset}"
    subprocess.run(["localedef", "-i", language, "-f", charset, tmp_path / name], check=True, timeout=60)
    environment = {"LOCPATH": str(tmp_path), "LC_ALL": name}
    shown = "import locale, sys; print(locale.setlocale(locale.LC_ALL, ''), sys.getfilesystemencoding())"
    said = subprocess.check_output(
        [sys.executable, "-c", shown], env={**os.environ, **environment}, text=True
    )
    assert said.split() == [name, charset.lower().replace("iso-", "iso")]
    assert build_apart(source, tmp_path / "out", 2, **environment) == expected


def test_files_made_in_another_order(expected: dict[str, bytes], tmp_path: Path) -> None:
    other = write_sources(tmp_path / "elsewhere", random.Random(1))
    assert build_apart(other, tmp_path / "out", 2, LC_ALL="C.UTF-8", TZ="Asia/Tokyo") == expected


class Shuffled:
    """What os.scandir returns, in another order."""

    def __init__(self, entries: list[Any]) -> None:
        self.entries = iter(entries)

    def __iter__(self) -> Iterator[Any]:
        return self.entries

    def __next__(self) -> Any:
        return next(self.entries)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    close = __exit__


@pytest.mark.parametrize("seed", range(4))
def test_folders_listed_in_another_order(
    seed: int, source: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    scandir, listdir, asked = os.scandir, os.listdir, []

    def in_disorder(listed: list[Any]) -> list[Any]:
        asked.append(len(listed))
        return rng.sample(listed, len(listed))

    def shuffled(*path: Any) -> Shuffled:
        with scandir(*path) as entries:
            return Shuffled(in_disorder(list(entries)))

    monkeypatch.setattr(os, "scandir", shuffled)
    monkeypatch.setattr(os, "listdir", lambda *path: in_disorder(listdir(*path)))
    (tmp_path / "out.key").write_text("5e" * 32)
    assert main(["build", str(source), "--out", str(tmp_path / "out"), *OPTIONS, "--workers", "1"]) == 0
    monkeypatch.undo()
    assert max(asked) >= 16 and contents(tmp_path / "out") == expected
