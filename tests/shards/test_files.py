"""A file or folder gets its final name when complete; a failure leaves what was there, and no temporary."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from shards.files import appearing_folder, clear_partial, locked, replace_file, replacing


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def full_disk(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("content", [b"new\r\n\x00", "n\u00e9w\r\n"])
@pytest.mark.parametrize("flush", [False, True])
def test_a_file_is_replaced_by_exactly_the_content(tmp_path: Path, content: bytes | str, flush: bool) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old and longer than the new one")
    replace_file(path, content, flush=flush)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert names(tmp_path) == ["a.json"]


def test_permissions_are_those_asked_for_less_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        replace_file(tmp_path / "public", b"")
        replace_file(tmp_path / "private", b"", mode=0o600)
    finally:
        os.umask(umask)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("public", "private")]
    assert modes == [0o640, 0o600]


@pytest.mark.parametrize("failing", ["write", "fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    if failing == "write":
        with pytest.raises(OSError, match="No space"), replacing(path) as temporary:
            temporary.write_text("half")
            full_disk()
    else:
        monkeypatch.setattr(os, failing, full_disk)
        with pytest.raises(OSError, match="No space"):
            replace_file(path, "new", flush=True)
    assert path.read_text() == "old" and names(tmp_path) == ["a"]


def test_an_error_that_names_no_file_gets_the_name(tmp_path: Path) -> None:
    """As that of a write to a full disk; one that names another file keeps that."""
    for filename in (None, "other"):
        with pytest.raises(OSError, match="No space") as raised, replacing(tmp_path / "file"):
            raise OSError(errno.ENOSPC, "No space left on device", *([filename] if filename else []))
        assert raised.value.filename == (filename or str(tmp_path / "file"))


def test_the_error_is_the_writers_even_where_no_temporary_can_be_removed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(NotADirectoryError):
        replace_file(tmp_path / "file/a", "new")
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "nowhere/a", "new")


def test_a_file_is_on_disk_before_it_has_its_name_and_its_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    fsync, replace = os.fsync, os.replace

    def flushed(descriptor: int) -> None:
        events.append(f"flush {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def replaced(old: Path, new: Path) -> None:
        events.append("replace")
        assert old.read_text() == "new"
        replace(old, new)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", replaced)
    replace_file(tmp_path / "a", "new", flush=True)
    assert events == [f"flush .a.partial-{os.getpid()}", "replace", f"flush {tmp_path.name}"]
    events.clear()
    replace_file(tmp_path / "a", "new")
    assert events == ["replace"]


def test_what_a_killed_process_left_is_found_by_its_name_and_replaced(tmp_path: Path) -> None:
    kill = (
        "import os, pathlib, signal, sys; from shards.files import *\n"
        "with replacing(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "a"
    path.write_text("old")
    subprocess.run([sys.executable, "-c", kill, str(path)], check=False)
    left = list(tmp_path.glob(".*.partial*"))
    assert len(left) == 1 and path.read_text() == "old"
    left[0].rename(tmp_path / f".a.partial-{os.getpid()}")
    (tmp_path / f".a.partial-{os.getpid()}").chmod(0o400)
    replace_file(path, "new")
    assert path.read_text() == "new" and names(tmp_path) == ["a"]


def test_a_link_in_the_temporarys_stead_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other")
    (tmp_path / f".a.partial-{os.getpid()}").symlink_to("other")
    replace_file(tmp_path / "a", "new")
    assert (tmp_path / "other").read_text() == "other" and not (tmp_path / "a").is_symlink()
    assert (tmp_path / "a").read_text() == "new"


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_appears_when_it_is_whole(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "in/out"
    if there:
        path.mkdir(parents=True)
    with appearing_folder(path, flush=True) as folder:
        assert folder.parent == path.parent and not list(folder.iterdir())
        (folder / "a").write_text("1")
        assert not path.exists() or not list(path.iterdir())
    assert names(path) == ["a"] and names(path.parent) == ["out"]


def test_what_a_killed_process_left_of_a_folder_goes_and_a_live_one_s_stays(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys, time; from shards.files import *\n"
        "with appearing_folder(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'a').write_text('half'); print(flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "out")]
    started = [subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(2)]
    for process in started:
        assert process.stdout and process.stdout.readline()
    killed, alive = (f".out.partial-{process.pid}" for process in started)
    assert {killed, alive} == {*names(tmp_path)}
    started[0].kill()
    started[0].wait()
    with appearing_folder(tmp_path / "out") as folder:
        assert {*names(tmp_path)} == {alive, folder.name}
    started[1].kill()
    started[1].wait()
    assert {*names(tmp_path)} == {alive, "out"}


def test_what_killed_processes_left_below_a_locked_folder_goes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("in/.a.partial-1", ".b.partial-2", ".c", "d"):
        (tmp_path / name).touch()
    with locked(tmp_path) as alone, locked(tmp_path) as again:
        assert (alone, again) == (True, False)
        clear_partial(tmp_path)
    assert names(tmp_path) == [".c", "d", "in"] and not names(tmp_path / "in")
    with locked(tmp_path / "none") as alone:
        assert not alone


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_a_folder_that_fails_does_not_appear(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), appearing_folder(tmp_path / "out") as folder:
        (folder / "sub").mkdir()
        (folder / "sub/a").write_text("1")
        raise error
    assert not names(tmp_path)


def test_a_folder_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("1")
    with pytest.raises(OSError, match="not empty"), appearing_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("1")
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["mine"]
