"""The group in which ranks learn of a cause times out before NCCL, whose watchdog ends them silently."""

from datetime import timedelta
from typing import Any

import pytest
from helpers.jobs import free_port
from torch import distributed

from chexdist.distributed import process_group
from chexdist.distributed.collectives import Collectives
from chexdist.distributed.devices import Device
from chexdist.distributed.heartbeat import known_within
from chexdist.distributed.world import World
from chexdist.run.directory import SECONDS_FOR_STATUS

CONTROL = 600
SECONDS_BETWEEN_VOTES = 2


def asked_for(device: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, timedelta]:
    """Backend and timeout of the groups that a rank on this device makes."""
    groups: dict[str, timedelta] = {}

    def gradients(backend: str, timeout: timedelta, **_: Any) -> None:
        groups["gradients " + backend] = timeout

    def control(backend: str, timeout: timedelta) -> None:
        groups["control " + backend] = timeout

    store = distributed.TCPStore("127.0.0.1", free_port(), 1, is_master=True)
    monkeypatch.setattr(distributed, "rendezvous", lambda *_, **__: iter([(store, 0, 1)]))
    monkeypatch.setattr(distributed, "init_process_group", gradients)
    monkeypatch.setattr(distributed, "new_group", control)
    mine = Device(0, "node", device)
    process_group._form_group(World(0, 1, 0, 0), mine, timedelta(seconds=CONTROL))
    Collectives(World(0, 2, 0, 0), CONTROL)
    return groups


def test_nccl_waits_longer_than_the_control_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what passes from the control group's end to that of the last rank, which sees a mark of it."""
    groups = asked_for("cuda:0", monkeypatch)
    assert groups.keys() == {"gradients nccl", "control gloo"}
    assert groups["control gloo"] == timedelta(seconds=CONTROL)
    longer = (groups["gradients nccl"] - groups["control gloo"]).total_seconds()
    assert longer >= 2 * (SECONDS_BETWEEN_VOTES + known_within(4096) + SECONDS_FOR_STATUS)


def test_gloo_says_for_itself_that_it_gave_up(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = asked_for("cpu", monkeypatch)
    assert groups == dict.fromkeys(("gradients gloo", "control gloo"), timedelta(seconds=CONTROL))
