"""What a registry is: names, each with the module that holds its formula, which is imported when it is used.

So the configuration and `--help` know every name without loading torch. The sentence that documents a name is
the first paragraph of its module."""

import ast
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.resources import files
from typing import Any, TypeVar

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry]):
    """Modules of one package by name; `registry[name]` imports. None stands for nothing to do, as in
    `none`.
    """

    def __init__(self, package: str, modules: dict[str, str | None]) -> None:
        self._package, self._modules = package, modules

    def __getitem__(self, name: str) -> Entry:
        module = self._modules[name]
        found: Any = None if module is None else import_module(f"{self._package}.{module}")
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)

    def summary(self, name: str) -> str:
        """The first paragraph of an entry's docstring, as one line, read from its source; empty for
        nothing.
        """
        tree = self._source(name)
        return " ".join((ast.get_docstring(tree) or "").partition("\n\n")[0].split()) if tree else ""

    def constant(self, name: str, constant: str, otherwise: Any = None) -> Any:
        """What an entry's source assigns to a name, as a literal; `otherwise` where it assigns nothing.

        Raises:
            AttributeError: it assigns nothing to it, and there is no `otherwise`.
        """
        tree = self._source(name)
        for node in tree.body if tree else ():
            if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [
                constant
            ]:
                return ast.literal_eval(node.value)
        if otherwise is None:
            raise AttributeError(f"{self._package}, {name}: no {constant}")
        return otherwise

    def _source(self, name: str) -> ast.Module | None:
        module = self._modules[name]
        if module is None:
            return None
        return ast.parse((files(self._package) / f"{module}.py").read_text(encoding="utf-8"))
