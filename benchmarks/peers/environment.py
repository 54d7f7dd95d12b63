"""An environment for a peer's package: its own, but for what this one has already, torch above all."""

import subprocess
import sys
import venv
from pathlib import Path

import torch

from chexdist.errors import WorkError

ROOT = Path(__file__).parents[2]
LINK = "chexdist.pth"


def python_with(packages: tuple[str, ...], folder: Path) -> str:
    """The interpreter of an environment with these packages, made at `folder` where there is none yet.

    Without packages it is this one. Packages are installed without their dependencies, so that torch is not
    replaced: what is missing is in `packages`.

    Raises:
        WorkError: pip failed.
    """
    if not packages:
        return sys.executable
    python, done = folder / "bin" / "python", folder / "installed"
    wanted = "\n".join(packages)
    if done.is_file() and done.read_text() == wanted:
        return str(python)
    venv.create(folder, with_pip=True, clear=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / LINK).write_text(f"{Path(torch.__file__).parents[1]}\n{ROOT}\n")
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", *packages]
    ended = subprocess.run(install, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise WorkError(f"{' '.join(install)}: {ended.stderr.strip()[-500:]}")
    done.write_text(wanted)
    return str(python)
