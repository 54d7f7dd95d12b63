"""The packages of `chexdist`, read from the sources: imports run down only, and each owns what it names."""

import ast
import importlib
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "chexdist"
PACKAGES = (
    "errors",
    "gan",
    "metrics",
    "config",
    "distributed",
    "data",
    "run",
    "evaluation",
    "training",
    "generation",
    "report",
    "doctor",
    "commands",
)
"""From the ground up."""
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 400


def package_of(path: Path) -> str:
    """The folder or module right below `chexdist`."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def packages_imported(path: Path) -> set[str]:
    """The packages that a file's import statements name, wherever they stand in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = [name.split(".") for name in names]
    return {part[1] for part in parts if part[0] == "chexdist" and len(part) > 1} & set(PACKAGES)


def test_there_are_no_other_packages() -> None:
    found = {package_of(path) for path in FILES} - {"__init__", "__main__"}
    assert found == set(PACKAGES) and len(PACKAGES) <= 13


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_down(package: str) -> None:
    allowed = {*PACKAGES[: PACKAGES.index(package)], package}
    for path in (path for path in FILES if package_of(path) == package):
        higher = packages_imported(path) - allowed
        assert not higher, f"{path.relative_to(PACKAGE)} imports from {sorted(higher)}, above its package"


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not even within a package: what imports what can be put in one order."""
    named = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in FILES}
    modules = {name.removesuffix(".__init__"): path for name, path in named.items()}
    edges: dict[str, set[str]] = {}
    for name, path in modules.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    found.add(inner if inner in modules else node.module)
        edges[name] = (found & modules.keys()) - {name}
    while leaves := [name for name, below in edges.items() if not below]:
        for leaf in leaves:
            del edges[leaf]
        edges = {name: below - set(leaves) for name, below in edges.items()}
    assert not edges, f"in a circle: {edges}"


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_says_what_it_decides(package: str) -> None:
    documentation = importlib.import_module(f"chexdist.{package}").__doc__ or ""
    assert len(documentation.split()) >= 10
    lines = documentation.strip().splitlines()
    assert package == "errors" or 2 <= len(lines) <= 16, lines


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert len(text.splitlines()) <= MOST_LINES


def spelled(path: Path) -> set[str]:
    """A file's strings that are no sentences and no docstrings, and of them those joined to a path."""
    tree = ast.parse(path.read_text())
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    strings = [
        node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    found = {node.value for node in strings if id(node) not in statements and " " not in node.value}
    joined = {
        node.right.value
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Div)
        and isinstance(node.right, ast.Constant)
    }
    return {text for text in found if re.search(FILE_NAMES, text)} | (joined & FOLDERS)


FILE_NAMES = (
    r"(metrics|fetched|ranks)\.jsonl|(status|provenance|evaluation|state)\.json$|(^|/)config\.yaml|images-[*N]"
    r"|(checkpoints|samples|evaluations|heartbeats)/|(generator|critic|ema)(_optimizer)?\.safetensors"
)
FOLDERS = {"samples", "evaluations", "checkpoints", "heartbeats", "features", "tensorboard", "lock"}
ELSEWHERE = {
    "commands/parser.py": {"images-N|best"},  # in a help text
    "data/cache.py": {"lock"},  # of a shard cache
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_layout_spells_the_names_in_a_run_directory(path: Path) -> None:
    """As paths, that is: a sentence for people may name them."""
    name = str(path.relative_to(PACKAGE))
    assert name == "run/layout.py" or spelled(path) == ELSEWHERE.get(name, set())


WAITING = {
    "distributed/collectives.py": "every collective of training besides DDP's",
    "distributed/backend.py": "the first sum, and torch's errors of a lost rank",
    "distributed/process_group.py": "the rendezvous, in which ranks agree on their devices",
    "doctor/peers.py": "the doctor's own",
    "doctor/examine.py": "the end of the doctor's process group",
    "training/networks.py": "DDP's type",
    "training/start.py": "the start of the group",
}


def test_collectives_are_where_they_are_said_to_be() -> None:
    """No other file touches torch.distributed, so a rank waits for another in a collective nowhere else."""
    touching = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        if re.search(r"torch\.distributed|from torch import .*\bdistributed\b|nn\.parallel", path.read_text())
        or "make_accelerator" in path.read_text()
    }
    assert touching == WAITING.keys()
