"""Imports a package that refuses a machine without a GPU, by answering its one question with yes."""

import sys
from importlib import import_module
from types import ModuleType
from unittest.mock import patch

import torch


def import_anywhere(name: str, without: str = "") -> ModuleType:
    """The module; `torch.cuda.is_available` is true while it is imported.

    `without`: a package that it imports and uses for nothing but its logs, which is left empty.
    """
    if without:
        sys.modules.setdefault(without, ModuleType(without))
    with patch.object(torch.cuda, "is_available", lambda: True):
        return import_module(name)
