"""Decides what `chexdist train --help` and docs/settings.md say of each setting; both are read from `tree`.

`python -m chexdist.config.reference > docs/settings.md` writes the page.
"""

import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from chexdist.config.annotations import OneOf, Unit
from chexdist.config.shipped import purposes
from chexdist.config.tree import Config, Ramp

HOW = (
    "On the command line a setting is --section.key value, such as --train.batch 64, after --config; in a "
    "YAML file it is a key of its section, such as `train: {batch: 64}`. The command line wins over the "
    "file, the file over the defaults. A ramp is a value that moves with the images shown: "
    "{start: 5.0e-4, end: 5.0e-5, images: 100000, shape: cosine}, from start to end within so many images, "
    "along half a cosine or (shape: linear) evenly."
)
SHIPPED = "Configurations that come with chexdist, each a value of --config:"
TYPES = {bool: "true or false", int: "whole number", float: "number", str: "text"}


@dataclass(frozen=True)
class Setting:
    """What is said of one setting. `choices`: what each value does, where it is a name in a registry."""

    key: str
    kind: str
    default: str | None
    """None: it must be given."""
    text: str
    choices: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """A section of the configuration and its settings, those of sections within it too."""

    name: str
    text: str
    settings: list[Setting]


@cache
def groups() -> tuple[Group, ...]:
    """Every section, in the order of the tree."""
    return tuple(
        Group(name, _text(section), list(_settings(name, section)))
        for name, section in Config.model_fields.items()
    )


def settings() -> list[Setting]:
    """Every setting, in the order of the tree."""
    return [setting for group in groups() for setting in group.settings]


def as_help(width: int) -> str:
    """All settings and shipped configurations as plain text, in lines of `width` characters."""
    lines = [*textwrap.wrap(HOW, width)]
    for group in groups():
        lines += ["", *_indented(f"{group.name}: {group.text}", width, 0, 2)]
        for setting in group.settings:
            default = "required" if setting.default is None else f"default {setting.default}"
            head = f"--{setting.key}: {setting.kind}; {default}"
            lines += _indented(head, width, 2, 6) + _indented(setting.text, width, 6, 6)
            for name, text in setting.choices.items():
                lines += _indented(f"{name}: {text}", width, 8, 10)
    lines += ["", SHIPPED]
    for name, text in purposes().items():
        lines += _indented(f"{name}: {text}", width, 2, 6)
    return "\n".join(lines)


def as_page() -> str:
    """All settings and shipped configurations as Markdown."""
    parts = ["# Settings", f"{HOW} This page is what `chexdist train --help` says, too."]
    for group in groups():
        rows = [
            "| " + " | ".join([f"`{said.key}`", said.kind, said.default or "required", said.text]) + " |"
            for said in group.settings
        ]
        parts.append(f"## {group.name}\n{group.text}")
        parts.append("\n".join(["| setting | value | default | what it does |", "|---|---|---|---|", *rows]))
        parts += [
            f"Values of `{setting.key}`:\n{_list(setting.choices)}"
            for setting in group.settings
            if setting.choices
        ]
    parts += [f"## Configurations\n{SHIPPED}", _list(purposes())]
    return "\n\n".join(parts) + "\n"


def _settings(prefix: str, found: FieldInfo) -> Iterator[Setting]:
    section = found.annotation
    assert isinstance(section, type) and issubclass(section, BaseModel)
    for name, inner in section.model_fields.items():
        key = f"{prefix}.{name}"
        if isinstance(inner.annotation, type) and issubclass(inner.annotation, BaseModel):
            yield from _settings(key, inner)
        else:
            yield Setting(key, _kind(inner), _default(inner), _text(inner), _choices(inner))


def _text(found: FieldInfo) -> str:
    return " ".join((found.description or "").split())


def _default(found: FieldInfo) -> str | None:
    if found.default is PydanticUndefined:
        return None
    if isinstance(found.default, str):
        return found.default or "empty"
    return json.dumps(found.default).removesuffix(".0")


def _kind(found: FieldInfo) -> str:
    """Type, limits and unit, such as `whole number from 1 (images)`."""
    unit = [f"({said.name})" for said in found.metadata if isinstance(said, Unit)]
    return " ".join([_type(found.annotation, found.metadata), *unit])


def _type(annotation: Any, metadata: list[Any]) -> str:
    names = [name for said in metadata if isinstance(said, OneOf) for name in said.names]
    arguments, origin = get_args(annotation), get_origin(annotation)
    if names or origin is Literal:
        return _alternatives(names or [str(value) for value in arguments])
    if origin is Annotated:
        return _type(arguments[0], _flat(arguments[1:]))
    if origin in (Union, UnionType):
        kinds = [_type(kind, []) for kind in arguments if kind is not NoneType]
        named = ", ".join(kinds + ["null"] * (NoneType in arguments)).replace(" or ", ", ")
        return " or ".join(named.rsplit(", ", 1))
    if origin is tuple:
        (each,) = {_type(kind, []) for kind in arguments}
        return f"list of {len(arguments)}, each a {each}"
    if annotation is Ramp:
        return "a ramp"
    return " ".join([TYPES[annotation], *_limits(metadata)])


def _flat(metadata: tuple[Any, ...]) -> list[Any]:
    return [part for said in metadata for part in (said.metadata if isinstance(said, FieldInfo) else [said])]


def _limits(metadata: list[Any]) -> Iterator[str]:
    words = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}
    for limit, word in words.items():
        for bound in metadata:
            value = getattr(bound, limit, None)
            if value is not None:
                yield f"{word} {_number(value)}"


def _number(value: float) -> str:
    power = int(value).bit_length() - 1
    return f"2^{power}" if power >= 16 and value == 2**power else f"{value:g}"


def _choices(found: FieldInfo) -> dict[str, str]:
    for said in found.metadata:
        if isinstance(said, OneOf) and said.summary:
            return {name: said.summary(name) or "switched off" for name in said.names}
    return {}


def _alternatives(names: list[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _indented(text: str, width: int, first: int, others: int) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=" " * first,
        subsequent_indent=" " * others,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _list(texts: dict[str, str]) -> str:
    return "\n".join(f"- `{name}`: {text}" for name, text in texts.items())


if __name__ == "__main__":
    print(as_page(), end="")
