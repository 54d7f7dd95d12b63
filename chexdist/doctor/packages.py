"""Whether the packages that are installed are those that chexdist asks for, and whether they can be
imported.
"""

import multiprocessing
import platform
from collections.abc import Callable
from importlib import import_module, metadata
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from chexdist.doctor.finding import Note

if TYPE_CHECKING:
    from packaging.requirements import Requirement

SHOWN = ("torch", "torchvision", "accelerate", "webdataset", "numpy", "safetensors")
IMPORTED = {
    "numpy": "numpy",
    "pydantic": "pydantic",
    "yaml": "pyyaml",
    "PIL.Image": "pillow",
    "rich": "rich",
    "torch": "torch",
    "accelerate": "accelerate",
    "webdataset": "webdataset",
    "safetensors": "safetensors",
}
"""Modules without which nothing else here can be checked, and the packages that they come in."""
SECONDS_TO_IMPORT = 120.0


def check_versions(note: Note) -> dict[str, str] | None:
    """The versions that matter, by name; a fault for each requirement that is missing, too old or can't be
    imported.

    None when nothing else can be checked with these packages.
    """
    versions = {"python": platform.python_version()}
    for requirement in _requirements(note):
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            note.fault(f"{requirement.name} is not installed", f"pip install '{requirement}'")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            note.fault(
                f"{requirement.name} {version} is installed, chexdist needs {requirement}",
                f"pip install --upgrade '{requirement}'",
            )
        if requirement.name in SHOWN:
            versions[requirement.name] = version
    broken = False
    for name, package in IMPORTED.items():
        try:
            import_module(name)
        except Exception as error:  # noqa: BLE001 - a broken build can raise anything
            broken = True
            note.fault(
                f"{name} can't be imported: {type(error).__name__}: {error}",
                f"pip install --force-reinstall {package}",
            )
    note.ok(", ".join(f"{name} {version}" for name, version in versions.items()))
    return None if broken else versions


def _requirements(note: Note) -> "list[Requirement]":
    """What the package asks for, without its extras."""
    from packaging.requirements import Requirement

    try:
        words = metadata.requires("chexdist") or []
        python = Requirement(f"python{metadata.distribution('chexdist').metadata['Requires-Python'] or ''}")
    except metadata.PackageNotFoundError:
        note.skipped("what chexdist requires: it is not installed as a package (`pip install .`)")
        return [Requirement(name) for name in SHOWN]
    if not python.specifier.contains(platform.python_version(), prereleases=True):
        note.fault(
            f"Python {platform.python_version()} is not {python.specifier}",
            "make an environment with that Python",
        )
    found = [Requirement(word) for word in words]
    return [one for one in found if one.marker is None or one.marker.evaluate({"extra": ""})]


def try_torchvision() -> Callable[[Note], None]:
    """Import torchvision in a child, beside the other checks; the check that is returned waits for it.

    A torchvision of another torch's build fails at import or takes the process with it, and it is slow to
    load. The child is forked, so that it has torch already: call this before anything starts threads.
    """
    import torch

    torch.optim.SGD(
        [torch.zeros(1, requires_grad=True)]
    )  # with it torch loads most of what torchvision waits for, here once
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_import_torchvision, args=(theirs,), daemon=True)
    child.start()
    theirs.close()

    def finish(note: Note) -> None:
        try:
            problem = (
                ours.recv() if ours.poll(SECONDS_TO_IMPORT) else f"no end within {SECONDS_TO_IMPORT:.0f} s"
            )
        except EOFError:
            child.join()
            problem = f"the import ended its process with code {child.exitcode}"
        child.kill()
        if problem:
            note.fault(
                f"torchvision can't be imported: {problem}",
                "it must be of torch's own build: pip install --force-reinstall torch torchvision, both "
                "from one index",
            )
        else:
            note.ok("torchvision can be imported beside this torch")

    return finish


def _import_torchvision(answer: Connection) -> None:
    try:
        import_module("torchvision")
        answer.send("")
    except BaseException as error:  # noqa: BLE001 - the parent says it
        answer.send(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
