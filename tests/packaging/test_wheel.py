"""The wheel holds the whole product, and works without the clone."""

import json
import os
import re
import shutil
import site
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIGURATIONS = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
Run = Callable[..., str]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: nothing that an earlier build left is in it, and this one leaves nothing."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("chexdist", "shards", "configs", "launch"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = f"{sys.executable} -m pip wheel --no-deps --no-build-isolation --no-index"
    _check(f"{build} --wheel-dir {out} {source}")
    (found,) = out.iterdir()
    return found


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """`installed("chexdist --help")` runs a program of an environment with the wheel, in an empty folder
    or in `folder`.

    The dependencies are those of this environment, found behind the wheel; its own editable chexdist is not,
    since a path file is read only in a site directory of the interpreter itself.
    """
    environment = tmp_path_factory.mktemp("environment")
    _check(f"{sys.executable} -m venv --without-pip {environment}")
    pip = f"{sys.executable} -m pip --python {environment}/bin/python"
    _check(f"{pip} install --no-deps --no-index {wheel}")
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    return _runner(environment, tmp_path_factory.mktemp("empty"))


def _runner(environment: Path, empty: Path) -> Run:
    def run(command: str, *more: str, folder: Path = empty) -> str:
        return _check(f"{environment}/bin/{command}", *more, folder=folder)

    return run


def _check(command: str, *more: str, folder: Path | None = None) -> str:
    """What a command prints; `more` are words that may hold spaces.

    It must end with 0, and sees no trace of this environment.
    """
    hidden = ("PYTHONPATH", "PYTHONHOME", "RANK", "WORLD_SIZE", "LOCAL_RANK")
    variables = {name: value for name, value in os.environ.items() if name not in hidden}
    words = [*command.split(), *more]
    done = subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def files_of_the_tree() -> Iterator[str]:
    """What the wheel must hold, by its names there."""
    for folder, place in (
        ("chexdist", "chexdist"),
        ("shards", "shards"),
        ("configs", "chexdist/configs"),
        ("launch", "chexdist/launch"),
    ):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield f"{place}/{path.relative_to(ROOT / folder).as_posix()}"


def test_the_wheel_holds_every_file_of_the_tree_and_no_other(wheel: Path) -> None:
    """Modules, schema, templates, configurations, launch files: a new package must be named in setup.cfg."""
    names = set(zipfile.ZipFile(wheel).namelist())
    held = {name for name in names if ".dist-info/" not in name}
    expected = set(files_of_the_tree())
    assert sorted(expected - held) == []
    assert sorted(held - expected) == []
    assert {name.split("/")[0] for name in held} == {"chexdist", "shards"}
    assert {"chexdist/py.typed", "shards/manifest.schema.json"} <= held


def test_nothing_is_imported_from_the_clone(installed: Run) -> None:
    """Every module can be imported, and is the one in the environment."""
    script = (
        "import importlib, json, pkgutil, chexdist, shards\n"
        "names = ['chexdist', 'shards']\n"
        "for package in (chexdist, shards):\n"
        "    names += [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + '.')]\n"
        "print(json.dumps({name: importlib.import_module(name).__file__ for name in names}))"
    )
    found = json.loads(installed("python -c", script))
    assert {"chexdist.training.trainer", "chexdist.configs", "shards.phantom.dicom"} <= found.keys()
    assert {name: file for name, file in found.items() if "/site-packages/" not in file} == {}
    environments = {file.split("/lib/python")[0] for file in found.values()}
    assert len(environments) == 1 and str(ROOT) not in environments.pop()


def test_help(installed: Run) -> None:
    assert "train" in installed("chexdist --help")
    assert "build" in installed("chexdist-shards --help")


def test_the_version_is_that_of_one_line(wheel: Path, installed: Run) -> None:
    """Of the wheel, the command and every manifest, without torch; no file of the sources writes it again."""
    version = wheel.name.split("-")[1]
    assert installed("chexdist --version") == f"chexdist {version}\n"
    script = "import shards.manifest, sys; print(shards.manifest.CREATED_BY, 'torch' in sys.modules)"
    assert installed("python -c", script) == f"chexdist-shards {version} False\n"
    files = [ROOT / "setup.cfg", ROOT / "pyproject.toml"]
    files += [path for package in ("chexdist", "shards") for path in (ROOT / package).rglob("*.py")]
    written = re.compile(rf"""["' ]{re.escape(version)}["'\n]""")
    assert [path for path in files if written.search(path.read_text())] == [ROOT / "shards/__init__.py"]


def test_launch_files_are_found_by_name(installed: Run) -> None:
    script = (
        "from importlib import resources\n"
        "print(*(item.name for item in (resources.files('chexdist.launch') / 'accelerate').iterdir()))"
    )
    found = installed("python -c", script).split()
    assert sorted(found) == sorted(path.name for path in (ROOT / "launch/accelerate").iterdir())


Shards = Callable[[int], Path]


@pytest.fixture(scope="session")
def shards(installed: Run, tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """`shards(64)` -> shards of synthetic patients at that size, made by the installed commands alone."""
    folder = tmp_path_factory.mktemp("phantom")
    _make_phantom(installed, folder)

    def build(size: int) -> Path:
        if not (folder / f"shards{size}").exists():
            _make_shards(installed, folder, size)
        return folder / f"shards{size}"

    return build


def _make_phantom(run: Run, folder: Path) -> None:
    run("chexdist-shards phantom --out phantom --patients 60 --size 128", folder=folder)


def _make_shards(run: Run, folder: Path, size: int) -> None:
    words = f"--out shards{size} --size {size} --split train=0.6,val=0.4 --workers 1"
    run(f"chexdist-shards build phantom --labels phantom/labels.csv {words}", folder=folder)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_configuration_is_found_by_name(name: str, shards: Shards, installed: Run) -> None:
    """At the size that it is for, on shards of that size."""
    size = int(name.rpartition("-")[2]) if name.endswith(("-128", "-256")) else 64
    described = installed(f"chexdist train --config {name} --dry-run --data.shards {shards(size)}")
    assert f"  size: {size}\n" in described and "\nrank 0: images 0 to " in described


def test_phantom_to_a_trained_generator(shards: Shards, installed: Run, tmp_path: Path) -> None:
    """With the weights that KID needs, which a package brings."""
    state, logged = _train(installed, tmp_path, shards(64))
    assert state == "done" and {"kid_x1000", "loss/critic"} <= logged


def _train(run: Run, folder: Path, shards: Path) -> tuple[str, set[str]]:
    """The state in which a training ends, and the names in its log."""
    words = "--model.width 2 --train.images 32 --eval.samples 64 --data.workers 0 --run.dir run"
    run(f"chexdist train --config vanilla --data.shards {shards} {words}", folder=folder)
    lines = (folder / "run/metrics.jsonl").read_text().splitlines()
    state = json.loads((folder / "run/status.json").read_text())["state"]
    return state, {json.loads(line)["name"] for line in lines}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """What setup.cfg asks for is enough: all comes from the package index, nothing from this environment."""
    environment, folder = tmp_path / "environment", tmp_path / "folder"
    folder.mkdir()
    try:
        _check(f"{sys.executable} -m venv {environment}")
        run = _runner(environment, folder)
        run(f"python -m pip install --quiet {wheel}[tensorboard]")
        _make_phantom(run, folder)
        _make_shards(run, folder, 64)
        state, logged = _train(run, folder, folder / "shards64")
        assert state == "done" and {"kid_x1000", "loss/critic"} <= logged
    finally:
        shutil.rmtree(environment)  # gigabytes
