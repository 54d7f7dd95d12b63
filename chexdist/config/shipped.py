"""Decides which configurations come with chexdist. Light: no YAML is read, and nothing is validated."""

from importlib import resources
from importlib.resources.abc import Traversable


def shipped() -> dict[str, Traversable]:
    """Their YAML files by name, in alphabetical order."""
    files = [file for file in resources.files("chexdist.configs").iterdir() if file.name.endswith(".yaml")]
    return {
        file.name.removesuffix(".yaml"): file
        for file in sorted(files, key=lambda file: file.name.removesuffix(".yaml"))
    }


def purposes() -> dict[str, str]:
    """What each is for, by name: the comment in its first line."""
    return {
        name: file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()
        for name, file in shipped().items()
    }
