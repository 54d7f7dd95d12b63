"""Which configurations come with chexdist. Light, since `--help` names them."""

from importlib import resources
from importlib.resources.abc import Traversable


def shipped() -> dict[str, Traversable]:
    """Their YAML files by name, in the order of the alphabet."""
    files = [file for file in resources.files("chexdist.configs").iterdir() if file.name.endswith(".yaml")]
    return {
        file.name.removesuffix(".yaml"): file
        for file in sorted(files, key=lambda file: file.name.removesuffix(".yaml"))
    }
