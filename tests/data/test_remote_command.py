"""The command line with shards behind a URL: what it loads, refuses before training, and shows."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from helpers.shard_server import ShardServer, status
from helpers.untrained import files, make_run

from chexdist.__main__ import main


@pytest.fixture(scope="session")
def shards(build_shards: Callable[..., Path]) -> Path:
    """96 training images in 12 shards, 24 for validation."""
    return build_shards(images=120, samples_per_shard=8, split="train=0.8,val=0.2")


@pytest.fixture
def served(shards: Path) -> Iterator[ShardServer]:
    with ShardServer(shards) as server:
        yield server


def dry_run(address: str, *more: str) -> int:
    sizes = ["--model.size", "32", "--train.batch", "2", "--train.group", "2", "--data.workers", "0"]
    return main(["train", "--config", "wgan-gp", "--data.shards", address, *sizes, *more, "--dry-run"])


def test_dry_run_reads_the_manifest_alone(
    served: ShardServer, shards: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    address = served.url.replace("http://", "http://user:hunter2@") + "?token=s3cret"
    assert dry_run(address, "--data.cache", str(tmp_path / "cache")) == 0
    printed = capsys.readouterr().out
    total = sum(path.stat().st_size for path in shards.glob("train-*.tar"))
    assert f"fetched from {served.url} into {tmp_path}/cache: {total:,} bytes on each node" in printed
    assert served.requests == {"manifest.json": 1} and not (tmp_path / "cache").exists()
    assert "hunter2" not in printed and "s3cret" not in printed
    assert dry_run(str(shards)) == 0
    local = capsys.readouterr().out
    assert printed.splitlines()[-1] == local.splitlines()[-1] and "fetched" not in local


@pytest.fixture
def remote_run(shards: Path, served: ShardServer, tmp_path: Path) -> Path:
    """A run on the served shards, none of which is in its cache yet."""
    run = make_run(tmp_path / "run", shards, "dcgan", True, lambda gan: None)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"] |= {"shards": served.url, "cache": str(tmp_path / "cache")}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return run


def test_a_server_that_is_gone_after_all_was_fetched(
    remote_run: Path, served: ShardServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cached manifest with the digest of the run is read in its place; a spoiled one is not."""
    words = ["generate", str(remote_run), "--n", "2", "--seed", "1", "--out"]
    assert main([*words, str(tmp_path / "before")]) == 0
    served.__exit__(None, None, None)
    assert main([*words, str(tmp_path / "after")]) == 0
    assert files(tmp_path / "before") == files(tmp_path / "after")
    (manifest,) = (tmp_path / "cache").glob("*.json")
    manifest.write_bytes(manifest.read_bytes() + b" ")
    capsys.readouterr()
    assert main([*words, str(tmp_path / "spoiled")]) == 1
    assert "manifest.json: 6 tries" in capsys.readouterr().err


@pytest.mark.slow
def test_an_evaluation_while_the_server_is_gone(
    remote_run: Path, served: ShardServer, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(remote_run), "--samples", "64", "--pairs", "16"]
    assert main(words) == 0
    found = capsys.readouterr().out
    served.__exit__(None, None, None)
    assert main(words) == 0
    assert capsys.readouterr().out == found


def test_too_small_a_cache_is_refused_with_the_number_needed(
    served: ShardServer, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    total = sum(path.stat().st_size for path in shards.glob("train-*.tar"))
    small = ["--data.cache_gib", str(0.7 * total / 2**30)]
    assert dry_run(served.url, *small) == 2
    line = capsys.readouterr().err
    assert (
        line.count("\n") == 1 and "all 12 shards are mixed with each other" in line and f"{total:,}" in line
    )
    found = re.search(r"set data.cache_gib to ([0-9.]+), or data.window to ([0-9]+) or less", line)
    assert found
    assert dry_run(served.url, "--data.cache_gib", found[1]) == 0
    assert dry_run(served.url, *small, "--data.window", found[2]) == 0
    assert dry_run(served.url, *small, "--data.window", str(int(found[2]) + 1)) == 2
    assert f"{int(found[2]) + 1} of its 12 shards are mixed" in capsys.readouterr().err
    assert dry_run(served.url, "--data.cache_gib", "0.000001") == 2
    assert "data.window to" not in capsys.readouterr().err


def test_no_manifest_there(served: ShardServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert dry_run(served.url + "/elsewhere") == 0, "the server looks at the name alone"
    served.goes_wrong("manifest.json", status(404))
    assert dry_run(served.url) == 2
    assert f"data.shards {served.url}: manifest.json: there is no such file" in capsys.readouterr().err
    served.goes_wrong("manifest.json", *[status(500)] * 6)
    assert dry_run(served.url) == 1
    assert f"{served.url}/manifest.json: 6 tries in 0 s, the last: HTTP 500" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../train-000000.tar", "a?b.tar", "%2e%2e", "..", "x/y.tar"])
def test_a_manifest_that_leaves_the_directory(
    name: str, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (shards / "manifest.json").read_text()
    assert "train-000003.tar" in content
    (tmp_path / "manifest.json").write_text(content.replace("train-000003.tar", name))
    with ShardServer(tmp_path) as server:
        assert dry_run(server.url) == 2
    assert "leaves the directory" in capsys.readouterr().err


def test_a_digest_that_is_a_path(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It becomes the name of a file in the cache."""
    content = (shards / "manifest.json").read_text()
    (tmp_path / "manifest.json").write_text(re.sub(r'"[0-9a-f]{64}"', '"../../x"', content))
    with ShardServer(tmp_path) as server:
        assert dry_run(server.url) == 2
    assert "SHA-256" in capsys.readouterr().err


def test_other_addresses(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for address in (f"pipe:touch {ran}", f"pipe://touch {ran}", "file:///etc", "nothing://of/the/kind"):
        assert dry_run(address) == 2
        assert "data.shards" in capsys.readouterr().err
    assert not ran.exists()


def test_local_shards_load_no_network(shards: Path) -> None:
    script = (
        "import sys; from chexdist.__main__ import main; "
        f"code = main(['train', '--config', 'wgan-gp', '--data.shards', {str(shards)!r}, "
        "'--model.size', '32', '--dry-run']); "
        "sys.exit(code or bool({'fsspec', 'aiohttp', 'torch'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
