"""Train chest X-ray GANs over any number of machines, exactly and privately.

The packages, from the ground up; imports go down only:

errors         the two ways in which a command ends badly
gan            the mathematics: models, losses, penalties, clips, augmentations
metrics        how images are measured: formulae, feature extractors, intervals
config         which settings exist, where they are read from, what may be combined
distributed    who am I, what is a rank's share, where do ranks wait, what is random
data           from a shard directory to the exact sequence of batches
run            the run directory: names, lock, status, log, checkpoints, a trained generator out of one
evaluation     which images are measured, against which
training       one start of a run: checks, the loop, the only step, what it measures on the way
generation     how pictures leave a run
report         runs side by side
doctor         what a machine and a configuration can't do
commands       what people type

All of them may import `errors`, and of `shards` its files, progress and version.
"""

import sys
from typing import TYPE_CHECKING, Any

try:
    from shards import __version__ as __version__
except ImportError:  # of a folder of that name, beside which Python does not look for an editable install
    HIDDEN = "a folder `shards` in this directory hides chexdist's package: rename it, or work elsewhere"
    if sys.argv[0] != "-m":
        raise ImportError(HIDDEN) from None
    print(f"chexdist: {HIDDEN}; `chexdist` instead of `python -m chexdist` works here", file=sys.stderr)
    sys.exit(2)

if TYPE_CHECKING:
    from chexdist.commands.train import train as train
    from chexdist.run.trained import load_generator as load_generator


def __getattr__(name: str) -> Any:
    """`load_generator` and `train`, loaded when asked for: the commands must not wait for torch."""
    if name == "load_generator":
        from chexdist.run.trained import load_generator

        return load_generator
    if name == "train":
        from chexdist.commands.train import train

        return train
    raise AttributeError(f"module chexdist has no attribute {name}")
