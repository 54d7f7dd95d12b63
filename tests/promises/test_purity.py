"""Who may know what, read from the sources; and what a command line loads before it has something to do."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("chexdist", "shards")
    for path in (ROOT / package).rglob("*.py")
}
PURE = ("gan", "metrics")
RANKS = ("accelerate", "torch.distributed", "chexdist.distributed", "chexdist.training")
ORDER = ("chexdist.distributed.noise", "chexdist.distributed.partition")
"""What decides samples and random numbers: all that these know of ranks is numbers, as arguments."""


def imports(module: str) -> set[str]:
    """Every module that this one names in an import statement, wherever that stands."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def reaches(module: str) -> set[str]:
    """All imports of a module and of ours that it imports; `chexdist` loads its one name on demand."""
    found: set[str] = set()
    todo = [module]
    while todo:
        new = imports(todo.pop()) - found
        found |= new
        todo += [
            name
            for name in ({*new} | {name.rpartition(".")[0] for name in new})
            if name in MODULES.keys() - {"chexdist"}
        ]
    return found


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("package", PURE)
def test_pure_modules_know_no_ranks(package: str) -> None:
    modules = [module for module in MODULES if within(module, (f"chexdist.{package}",))]
    assert modules
    for module in modules:
        known = sorted(name for name in reaches(module) if within(name, RANKS))
        assert not known, f"{module} knows {known}"


def test_the_two_packages_share_only_the_manifest() -> None:
    """Besides the version, and modules that know nothing of either: files, progress, free memory."""
    shared = (
        "shards.__version__",
        "shards.files",
        "shards.progress",
        "shards.free_memory",
        "shards.stop_signals",
    )
    for module in MODULES:
        others = (
            ("shards",)
            if module.startswith("chexdist")
            else ("chexdist", "torch", "torchvision", "accelerate")
        )
        known = sorted(name for name in imports(module) if within(name, others) and not within(name, shared))
        assert not known, f"{module} imports {known}"


def test_local_rank_is_named_in_one_place() -> None:
    """It chooses a device, which Accelerate does, and nothing else."""
    naming = [module for module, path in MODULES.items() if "local_rank" in path.read_text().lower()]
    assert naming == ["chexdist.distributed.world"]


def test_order_and_partition_know_no_ranks_but_their_arguments() -> None:
    for module in ("chexdist.data.order", "chexdist.distributed.partition", "chexdist.distributed.noise"):
        outside = [name for name in reaches(module) if not within(name, ORDER)]
        assert not any(within(name, (*RANKS, "torch", "os")) for name in outside), module


@pytest.mark.parametrize("command", ["chexdist", "shards"])
def test_command_line_loads_nothing_heavy(command: str) -> None:
    heavy = (
        "torch",
        "torchvision",
        "accelerate",
        "numpy",
        "pydicom",
        "PIL",
        "pydantic",
        "webdataset",
        "rich",
    )
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys, {command}.__main__ as m; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert f"{command}.__main__" in loaded and not set(heavy) & set(loaded)


@pytest.mark.parametrize("command", ["chexdist", "shards"])
def test_help_loads_nothing_heavy(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", command, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "argparse" in loaded and "usage" in done.stdout
    assert not {"torch", "numpy", "pydicom", "pydantic"} & loaded
