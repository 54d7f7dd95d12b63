"""README, CONTRIBUTING and docs/ show what the commands that they name print, and name only what is there."""

import argparse
import configparser
import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from benchmarks.__main__ import BENCHMARKS
from benchmarks.__main__ import main as benchmarks
from benchmarks.__main__ import parser as benchmarks_parser
from chexdist.__main__ import main
from chexdist.__main__ import parser as chexdist_parser
from chexdist.config.load import load_config
from chexdist.config.rules import check_world
from chexdist.config.tree import Config
from shards.parser import parser as shards_parser

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}
README, RESULTS = PAGES["README.md"], PAGES["docs/benchmarks.md"]
SETTINGS = {
    f"{section}.{key}"
    for section, field in Config.model_fields.items()
    for key in field.annotation.model_fields  # type: ignore[union-attr]
}
MORE_SETTINGS = {f"optim.{network}.{key}" for network in ("generator", "critic") for key in ("lr", "betas")}
FOREIGN = {
    "accelerate launch": {"--multi_gpu", "--cpu", "--num_processes", "--config_file"},
    "torchrun": {"--nnodes", "--nproc-per-node", "--max-restarts", "--rdzv-backend"},
    "sbatch": {"--nodes", "--gpus-per-node", "--gpus", "--time", "--signal", "--array", "--cpus-per-task"}
    | {"--cpus-per-gpu", "--mem-per-gpu", "--mem-per-cpu", "--export"},
    "apptainer": {"--nv", "--bind"},
    "srun": {"--container-image", "--container-mounts"},
    "scancel": {"--batch", "--signal"},
    "pip": {"--no-deps"},
}
"""Options of other programs that we show. That they exist was looked up in their documentation."""


def sections(page: str, name: str) -> list[str]:
    """What stands between `<!-- name -->` and `<!-- end -->`, cut before each bold heading."""
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- end -->", page, re.DOTALL)
    assert found, f"there is no `<!-- {name} -->`"
    parts = re.split(r"(?m)^(?=\*\*)", found[1].strip())
    return [part.strip() for part in parts if part.strip()]


def prose(page: str) -> str:
    """A page without its code blocks."""
    return re.sub(r"(?ms)^ *```.*?^ *```$", "", page)


def blocks(page: str) -> Iterator[str]:
    """The commands of its code blocks, each on one line, without prompt and comment."""
    for language, block in re.findall(r"(?ms)^ *```(\w*)\n(.*?)^ *```$", page):
        if not language:
            lines = re.sub(r"\\\n\s*", "", block).splitlines()
            yield from (line.strip().removeprefix("$ ").partition(" #")[0].strip() for line in lines)


def commands(page: str) -> list[list[str]]:
    """The words of each command of ours, or of a launcher, that a code block shows."""
    ours = r"(chexdist|chexdist-shards|accelerate launch|torchrun|sbatch|make|python -m benchmarks) "
    return [
        shlex.split(line.replace("...", "").replace("%a", "1"))
        for line in blocks(page)
        if re.match(ours, f"{line} ")
    ]


def check_ours(words: list[str], ranks: int = 1) -> None:
    """A command line of ours is one that its parser takes, with settings that so many ranks can train by."""
    program, *rest = words
    if program == "chexdist-shards":
        shards_parser().parse_args(rest)
        return
    assert program == "chexdist", words
    options, settings = chexdist_parser().parse_known_args(rest)
    assert not settings or options.command in ("train", "doctor"), words
    if options.command in ("train", "doctor") and options.config:
        check_world(load_config(options.config, settings), ranks)


def check_launched(words: list[str]) -> None:
    """A launcher: its options are among those that we know, its files exist, and what it starts parses."""
    name = next(name for name in FOREIGN if words[: len(name.split())] == name.split())
    if name == "sbatch":
        cut = next((at for at, word in enumerate(words) if word.endswith(".sbatch")), len(words))
        if cut < len(words):
            assert (ROOT / words[cut]).is_file(), words
            started = {
                "train.sbatch": ["chexdist", "train"],
                "evaluate.sbatch": ["chexdist", "evaluate"],
                "build-shards.sbatch": ["chexdist-shards", "build"],
            }[Path(words[cut]).name]
            check_ours([*started, *words[cut + 1 :]], ranks(words[:cut]))
    else:
        cut = words.index("-m") if "-m" in words else len(words)
        if cut < len(words):
            check_ours(words[cut + 1 :], ranks(words[:cut]))
    own = [word.partition("=")[0] for word in words[:cut] if word.startswith("--")]
    assert set(own) <= FOREIGN[name], words
    for word in words[:cut]:
        if word.startswith("launch/"):
            assert (ROOT / word).is_file(), word


def ranks(words: list[str]) -> int:
    """How many a launcher starts."""
    options = dict(zip(words, [*words[1:], ""], strict=True))
    if "--config_file" in options:
        return int(yaml.safe_load((ROOT / options["--config_file"]).read_text())["num_processes"])
    each = next(
        (
            options[name]
            for name in ("--num_processes", "--nproc-per-node", "--gpus-per-node")
            if name in options
        ),
        1,
    )
    return int(each) * int(options.get("--nodes", 1))


def check_make(words: list[str]) -> None:
    """Every target is one of the Makefile's."""
    rules = re.findall(r"(?m)^([\w.-]+):(?!=)", (ROOT / "Makefile").read_text())
    assert set(words[1:]) <= set(rules), words


def check(words: list[str]) -> None:
    """Check one command, whoever's it is."""
    if words[0] == "make":
        check_make(words)
    elif words[0] == "python":
        options = benchmarks_parser().parse_args(words[3:])
        assert set(options.names) <= set(BENCHMARKS), words
    elif words[0] in ("chexdist", "chexdist-shards"):
        check_ours(words)
    else:
        check_launched(words)


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Every option string of a parser and of its subcommands."""
    found: set[str] = set()
    for action in parser._actions:
        found |= set(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            found |= {option for sub in action.choices.values() for option in options_of(sub)}
    return found


def test_results_are_the_report_of_the_runs(tmp_path: Path) -> None:
    runs = sorted(str(path) for path in (ROOT / "results/nih64").iterdir())
    assert main(["report", *runs, "--out", str(tmp_path / "report.md")]) == 0
    report, shown = (tmp_path / "report.md").read_text(), sections(RESULTS, "results")
    assert len(runs) == 5 and len(shown) == 2
    for section in shown:
        assert section + "\n" in report
    assert sections(README, "results") == shown[:1]


def test_measurements_are_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """Each benchmark is shown, wherever, from a file of its results, but the one without."""
    pages = "\n".join(PAGES.values())
    shown = re.findall(r"<!-- (benchmarks/results/(\w+)-\S+) -->\n(.*?)<!-- end -->", pages, re.DOTALL)
    assert {name for _, name, _ in shown} == set(BENCHMARKS) - {"gpu"}
    for file, _, text in shown:
        assert benchmarks(["--markdown", str(ROOT / file)]) == 0
        assert capsys.readouterr().out.strip() == text.strip()


def anchors(page: str) -> set[str]:
    """The anchors that headings get: lower case, without punctuation, dashes for spaces."""
    titles = re.findall(r"(?m)^#+ (.+)$", prose(page))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    """To a file, to a heading of a page, or away."""
    links = re.findall(r"\]\(([^)]+)\)", prose(PAGES[name]))
    for link in links:
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        path = ((ROOT / name).parent / target).resolve() if target else ROOT / name
        assert path.is_relative_to(ROOT) and path.exists(), link
        if anchor:
            assert anchor in anchors(PAGES[str(path.relative_to(ROOT))]), link


def test_the_readme_leads_to_every_page() -> None:
    linked = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", README)]
    assert PAGES.keys() - {"README.md"} <= set(linked)
    assert len(linked) > 20


@pytest.mark.parametrize("name", PAGES)
def test_commands_parse(name: str) -> None:
    for words in commands(PAGES[name]):
        check(words)


def test_the_readme_shows_the_commands() -> None:
    """The way from a download to a report, and that the commands of a page are found at all."""
    shown = {tuple(words[:2]) for words in commands(README)}
    assert {("make", "demo"), ("make", "test"), ("accelerate", "launch")} <= shown
    for command in ("train", "evaluate", "report", "generate"):
        assert ("chexdist", command) in shown
    for command in ("build", "verify", "inspect", "preview", "phantom"):
        assert ("chexdist-shards", command) in shown
    assert len(commands(README)) > 16


def test_a_command_that_does_not_parse_is_found() -> None:
    for line in (
        "chexdist train --config dcgan --data.shrads DIR",
        "chexdist evaluate RUN --pears 3",
        "chexdist-shards build DIR",
        "accelerate launch --nproc 2 -m chexdist train --config dcgan",
        "accelerate launch --num_processes 2 -m chexdist train --config dgcan",
        "sbatch launch/slurm/train.sbatch --config dcgan --train.batsh 3",
        "accelerate launch --num_processes 3 -m chexdist train --config dcgan",
        "torchrun --nproc-per-node 16 -m chexdist train --config dcgan-256",
        "sbatch --nodes 2 --gpus-per-node 8 launch/slurm/train.sbatch --config dcgan-256",
        "make demos",
        "python -m benchmarks steps",
    ):
        (words,) = commands(f"```\n{line}\n```")
        with pytest.raises((Exception, SystemExit)):
            check(words)


@pytest.mark.parametrize("name", PAGES)
def test_options_and_settings_in_the_text_exist(name: str) -> None:
    """Whatever stands in `code` and looks like an option, a setting, a command or a file of this tree."""
    ours = options_of(chexdist_parser()) | options_of(shards_parser()) | options_of(benchmarks_parser())
    known = ours.union(*FOREIGN.values())
    sections_of_settings = "|".join(Config.model_fields)
    settings = SETTINGS | MORE_SETTINGS
    for code in re.findall(r"`([^`\n]+)`", prose(PAGES[name])):
        for option in re.findall(r"(?<!\S)--([\w.-]+)", code):
            assert f"--{option}" in known or option in settings | {"section.key"}, code
        for setting in re.findall(rf"(?<![\w./-])((?:{sections_of_settings})\.[a-z_.]+)", code):
            assert setting in settings or setting.endswith((".py", ".sbatch", ".key", ".yaml")), code
        if match := re.match(r"(chexdist|chexdist-shards|make) ([a-z-]+)", code):
            check_named(*match.groups())
        if match := re.match(r"(?:\S*/)?python -m ([\w.]+)", code):
            assert find_spec(match[1]), code
        if re.fullmatch(r"[\w.]+(/[\w.-]+)+\.(py|md|yaml|sbatch|json)", code) and "NAME" not in code:
            assert (ROOT / code).is_file(), code


def check_named(program: str, name: str) -> None:
    """A subcommand or target that a sentence names."""
    if program == "make":
        check_make([program, name])
        return
    parser = {"chexdist": chexdist_parser, "chexdist-shards": shards_parser}[program]()
    (commands_of,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    assert name in commands_of.choices, f"{program} {name}"


def test_the_readme_is_short() -> None:
    lines = README.splitlines()
    assert len(lines) <= 160
    assert not [line for line in lines if len(line) > 140 and not line.startswith("|")]


@pytest.mark.parametrize("name", sorted(name for name in PAGES if name.startswith("docs/")))
def test_a_page_is_short_and_shows_something(name: str) -> None:
    """Three screens at most, with a table or a picture; the reference of all settings may be longer."""
    lines = PAGES[name].splitlines()
    assert len(lines) <= 150 or name == "docs/settings.md"
    assert "|---" in PAGES[name] or "![" in PAGES[name]


def test_the_readme_says_what_each_dependency_is_for() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    named = f"{setup['options']['install_requires']}\n{extras['notebooks']}\n{extras['tensorboard']}"
    names = {match[0].lower() for line in named.split("\n") if (match := re.match(r"[\w-]+", line.strip()))}
    table = README.partition("## What it needs")[2].lower()
    said = set(
        re.findall(r"[\w-]+", "\n".join(line.split("|")[1] for line in table.splitlines() if "|" in line))
    )
    assert len(names) > 15 and names - said == set()


def test_the_glossary_is_short() -> None:
    """At most 25 words, each explained in one line, in alphabetical order."""
    words = re.findall(r"(?m)^\| ([^|]+) \| ([^|]+) \|$", PAGES["docs/glossary.md"])[1:]
    assert 15 <= len(words) <= 25
    assert [word.lower() for word, _ in words] == sorted(word.lower() for word, _ in words)
