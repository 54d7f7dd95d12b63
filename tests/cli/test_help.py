"""`--help` has an example for every command, that of `train` every setting; not installed, it is one line."""

import argparse
import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chexdist.__main__ import parser
from chexdist.config.load import build_config, load_config
from chexdist.config.shipped import shipped
from chexdist.gan.augment import AUGMENTS
from chexdist.gan.clips import CLIPS
from chexdist.gan.losses import LOSSES
from chexdist.gan.models import FAMILIES
from chexdist.gan.penalties import PENALTIES
from chexdist.metrics.extractors import EXTRACTORS
from shards.parser import parser as shards_parser

ROOT = Path(__file__).parents[2]
PARSERS = {"chexdist": parser, "chexdist-shards": shards_parser}
COMMANDS = ("train", "evaluate", "generate", "export", "compare", "report", "doctor", "demo")
SHARD_COMMANDS = ("build", "verify", "inspect", "preview", "phantom")


def command_parser(program: str, command: str) -> argparse.ArgumentParser:
    (found,) = (
        action for action in PARSERS[program]()._actions if isinstance(action, argparse._SubParsersAction)
    )
    return found.choices[command]


def examples(text: str) -> list[str]:
    """The lines below `example:` or `examples:`, up to an empty one."""
    lines = text.splitlines()
    (heading,) = (index for index, line in enumerate(lines) if line in ("example:", "examples:"))
    return [line.strip() for line in lines[heading + 1 : [*lines, ""].index("", heading)]]


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


@pytest.fixture(scope="module")
def train_help() -> str:
    """What is printed on a terminal of 80 columns, with its line breaks taken out."""
    words = [sys.executable, "-m", "chexdist", "train", "--help"]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "80"}
    )
    assert max(map(len, done.stdout.partition("On the command line")[2].splitlines())) < 80
    return " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("program", "command"),
    [("chexdist", name) for name in COMMANDS] + [("chexdist-shards", name) for name in SHARD_COMMANDS],
)
def test_every_command_has_an_example_that_its_parser_takes(program: str, command: str) -> None:
    shown = examples(command_parser(program, command).format_help())
    assert shown
    for line in shown:
        words = shlex.split(line)
        if words[0] == "accelerate":
            words = words[words.index("-m") + 1 :]
        assert words[:2] == [program, command]
        options, settings = PARSERS[program]().parse_known_args(words[1:])
        assert not settings or command in ("train", "doctor")
        if getattr(options, "config", None):
            load_config(options.config, settings)


@pytest.mark.parametrize(
    ("program", "commands"), [("chexdist", COMMANDS), ("chexdist-shards", SHARD_COMMANDS)]
)
def test_the_program_s_help_names_every_command(program: str, commands: tuple[str, ...]) -> None:
    text = PARSERS[program]().format_help()
    assert examples(text) and all(f"\n    {name} " in text for name in commands)


def test_train_s_help_has_every_setting_with_its_default(train_help: str) -> None:
    config = build_config({"model": {"name": "dcgan"}, "loss": {"name": "hinge"}})
    for key, value in leaves(config.model_dump(mode="json")):
        assert train_help.count(f" --{key}: ") == 1, key
        head = train_help.partition(f" --{key}: ")[2].partition(" --")[0]
        if key in ("model.name", "loss.name"):
            assert "; required " in head
        elif key != "model.norm":  # null, until the GAN is known
            shown = value or "empty" if isinstance(value, str) else json.dumps(value).removesuffix(".0")
            assert f"; default {shown} " in head, key


@pytest.mark.parametrize("registry", [FAMILIES, LOSSES, PENALTIES, CLIPS, AUGMENTS, EXTRACTORS])
def test_train_s_help_says_what_each_choice_is(registry: Any, train_help: str) -> None:
    assert len(registry) > 1
    for name in registry:
        summary = registry.summary(name)
        assert f" {name}: {summary or 'switched off'} " in train_help, name
        assert summary or name == "none"


def test_train_s_help_says_what_is_easily_misread(train_help: str) -> None:
    assert (
        "--penalty.every: whole number from 0 (images); default 0 Lazy regularisation (Karras 2020): real "
        "images between two computations of the penalty. 0, or anything up to train.batch: with every batch. "
        "Above that, the penalty is multiplied by every / train.batch."
    ) in train_help
    assert "--control.every: whole number from 1 (batches); default 25 " in train_help
    assert "--train.seed: whole number from 0 below 2^63; default 0 " in train_help
    assert "--model.size: 32, 64, 128, 256 or 512 (pixels); default 64 " in train_help


def test_train_s_help_has_the_shipped_configurations(train_help: str) -> None:
    listing = train_help.partition("Configurations that come with chexdist")[2]
    for name, file in shipped().items():
        purpose = file.read_text().splitlines()[0].removeprefix("# ")
        assert purpose.endswith(".") and f" {name}: {purpose} " in f"{listing} "


def test_help_is_quick() -> None:
    """The best of three, in seconds of CPU: other processes may take the cores meanwhile."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "chexdist", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.3


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A clone that was not installed, and a Python with nothing but its standard library."""
    folder = tmp_path_factory.mktemp("bare")
    for package in ("chexdist", "shards", "configs", "launch"):
        shutil.copytree(
            ROOT / package, folder / "clone" / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    return folder / "clone", folder / "venv/bin/python"


@pytest.mark.parametrize(
    "words",
    ["chexdist --help", "chexdist train --help", "chexdist train --config dcgan", "chexdist doctor"]
    + ["shards --help", "shards verify --help", "shards verify x"],
)
def test_a_clone_that_was_not_installed_is_one_line(words: str, bare: tuple[Path, Path]) -> None:
    clone, python = bare
    done = subprocess.run(
        [python, "-m", *words.split()], cwd=clone, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "`pip install -e .`" in done.stderr


def test_a_package_that_is_gone_is_one_line() -> None:
    script = (
        "import sys\nsys.modules['yaml'] = None\nfrom chexdist.__main__ import main\n"
        "sys.exit(main(['train', '--config', 'dcgan']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "has no package yaml" in done.stderr and "`pip install -e .`" in done.stderr


def test_a_module_of_ours_that_is_gone_is_a_traceback() -> None:
    """That is a bug, which no installation of packages mends."""
    script = (
        "import sys\nsys.modules['chexdist.config.load'] = None\nfrom chexdist.__main__ import main\n"
        "sys.exit(main(['train', '--config', 'dcgan']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" in done.stderr
