"""Train chest X-ray GANs over any number of machines, exactly and privately."""

from typing import TYPE_CHECKING, Any

from shards import __version__ as __version__

if TYPE_CHECKING:
    from chexdist.run.trained import load_generator as load_generator


def __getattr__(name: str) -> Any:
    """`chexdist.load_generator`, loaded when asked for: the commands must not wait for torch."""
    if name == "load_generator":
        from chexdist.run.trained import load_generator

        return load_generator
    raise AttributeError(f"module chexdist has no attribute {name}")
