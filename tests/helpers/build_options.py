"""The options of `chexdist-shards build` as the command gives them, with what a test changes."""

import argparse

from shards.parser import parser


def build_options(**changed: object) -> argparse.Namespace:
    """As `build in --out out` has them but for `changed`, whatever the command line would say to that."""
    given = vars(parser().parse_args(["build", "in", "--out", "out"]))
    return argparse.Namespace(**{**given, **changed})
