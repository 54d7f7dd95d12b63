"""`train.precision: auto`: what is measured, and what is remembered of it."""

import json
from pathlib import Path

import pytest
import torch

from chexdist.training import precision

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the answer is remembered; nothing of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/chexdist/bf16.json"


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """Which dtypes were timed; bf16 takes half as long as float32."""
    seen: list[torch.dtype] = []

    def seconds(device: torch.device, dtype: torch.dtype) -> float:
        seen.append(dtype)
        return 1.0 if dtype is torch.bfloat16 else 2.0

    monkeypatch.setattr(precision, "_seconds", seconds)
    return seen


def gain(monkeypatch: pytest.MonkeyPatch, times: float) -> None:
    monkeypatch.setattr(precision, "bf16_gain", lambda device: times)


@pytest.mark.parametrize(("times", "expected"), [(0.2, "no"), (1.19, "no"), (1.2, "bf16"), (3.0, "bf16")])
def test_bf16_where_it_pays(times: float, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gain(monkeypatch, times)
    assert precision.automatic(CPU) == expected


def test_it_is_measured_once(timed: list[torch.dtype], cache: Path) -> None:
    assert precision.automatic(CPU) == "bf16"
    assert sorted(map(str, timed)) == ["torch.bfloat16", "torch.float32"]
    (measured,) = json.loads(cache.read_text()).values()
    assert measured == 2.0
    assert precision.automatic(CPU) == "bf16" and len(timed) == 2


def test_what_is_remembered_counts(timed: list[torch.dtype], cache: Path) -> None:
    precision.automatic(CPU)
    (key,) = json.loads(cache.read_text())
    cache.write_text(json.dumps({key: 0.3}))
    assert precision.automatic(CPU) == "no" and len(timed) == 2


@pytest.mark.parametrize("change", ["threads", "torch"])
def test_another_machine_is_measured_anew(
    change: str, timed: list[torch.dtype], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what was known of the first is still known: a home directory is shared by many machines."""
    precision.automatic(CPU)
    if change == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    else:
        monkeypatch.setattr(torch, "__version__", "99.0")
    precision.automatic(CPU)
    assert len(timed) == 4 and len(json.loads(cache.read_text())) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"a": "b"}', '{"a": [1]}', "\xff"])
def test_a_file_that_is_nothing_of_ours_is_measured_over(
    content: str, timed: list[torch.dtype], cache: Path
) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_bytes(content.encode("latin-1"))
    assert precision.automatic(CPU) == "bf16" and len(json.loads(cache.read_text())) == 1


def test_a_folder_that_can_t_be_written_is_no_fault(timed: list[torch.dtype], cache: Path) -> None:
    cache.parent.parent.write_text("a file, where the folder would be")
    assert [precision.automatic(CPU) for _ in range(2)] == ["bf16"] * 2 and len(timed) == 4


def test_it_takes_about_a_second_and_is_a_positive_number() -> None:
    assert 0.01 < precision.bf16_gain(CPU) < 100


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "no"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_gpus_go_by_their_generation(
    capability: tuple[int, int], expected: str, timed: list[torch.dtype], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert precision.automatic(torch.device("cuda")) == expected and timed == []
