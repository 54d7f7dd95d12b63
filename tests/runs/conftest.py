"""The shard directories that the tests of runs read, and the runs that nothing happened to."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import jobs


@pytest.fixture(scope="session")
def shards(build_shards: Callable[..., Path]) -> Path:
    """72 training images in four shards, 24 for validation."""
    return build_shards(96, 20, split="train=0.75,val=0.25")


@pytest.fixture(scope="session")
def other_shards(build_shards: Callable[..., Path]) -> Path:
    """The same from one patient more."""
    return build_shards(97, 20, split="train=0.75,val=0.25")


Undisturbed = Callable[..., Path]


@pytest.fixture(scope="session")
def undisturbed(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """`undisturbed(config, size, *more)` -> a run that nothing happened to, made once; never change it."""
    made: dict[tuple[str, ...], Path] = {}

    def train(config: str, size: int, *more: str) -> Path:
        wanted = (config, str(size), *more)
        if wanted not in made:
            folder = tmp_path_factory.mktemp("undisturbed")
            jobs.run(jobs.small(shards, folder / "run", config, *more), folder / "log", size)
            made[wanted] = folder / "run"
        return made[wanted]

    return train


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """Whatever a test started ends with it."""
    yield
    while jobs.started:
        jobs.started.pop().kill()
