"""Decides where this user's machine remembers what takes long to compute again."""

import os
from pathlib import Path


def user_cache() -> Path:
    """The folder, which need not exist: `chexdist` in $XDG_CACHE_HOME, or in ~/.cache. It may be deleted."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chexdist"
