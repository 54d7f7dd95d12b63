"""The doctor's round: which checks there are, in which order, and what one needs of another."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import distributed

from chexdist.config.tree import Config
from chexdist.data.manifest import Manifest
from chexdist.distributed.world import World
from chexdist.doctor.advice import check_advice
from chexdist.doctor.finding import Finding, Findings, Note, listed
from chexdist.doctor.fit import check_batch, check_checkpoints, check_fit
from chexdist.doctor.launches import check_launches
from chexdist.doctor.machine import check_bf16, check_devices
from chexdist.doctor.memory import check_memory
from chexdist.doctor.merge import merge
from chexdist.doctor.packages import try_torchvision
from chexdist.doctor.peers import Peers, check_variables, describe_world, form_group, time_all_reduce
from chexdist.doctor.shards import Reading, check_manifest, check_rate, try_fetching, try_reading
from chexdist.doctor.simulate import Constants, simulate, with_enough_groups
from chexdist.doctor.sizes import Sizes, largest_share, sizes_of
from chexdist.doctor.speed import Speed, measure_speed
from chexdist.doctor.storage import check_cache, check_disk, check_loaders, check_shared
from chexdist.errors import WorkError
from chexdist.training.precision import automatic, with_precision


@dataclass(frozen=True)
class Subject:
    """What is examined; the empty parts are not. `simulate` is a world size."""

    world: World
    config: Config | None
    shards: str
    run: str
    simulate: int | None


@dataclass(frozen=True)
class Plan:
    """What would be trained: the configuration, by so many ranks, and what it needs. `share` is a rank's
    largest, images.
    """

    config: Config
    ranks: int
    share: int
    classes: int
    sizes: Sizes
    fits: bool


class Examination:
    """One round on one rank. All ranks go the same way through it, since all of them try storage and network
    at once.
    """

    def __init__(self, subject: Subject, findings: Findings, versions: dict[str, str]) -> None:
        self.subject, self.check, self.findings = subject, findings.check, findings
        self.versions = versions
        self.peers = Peers(subject.world, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        self.manifest: Manifest | None = None
        self.reading: Reading | None = None
        self.plan: Plan | None = None
        self.speed: Speed | None = None
        self.bandwidth: float | None = None
        self.simulated: list[str] = []

    def steps(self) -> list[Callable[[], object]]:
        """The round."""
        torchvision = self.check("torchvision", lambda _: try_torchvision())  # before any thread is started
        return [
            self.join,
            self.look_at_shards,
            self.look_at_plan,
            self.look_at_run,
            self.time_training,
            self.compare,
            self.simulate,
            lambda: torchvision and self.check("torchvision", torchvision),
        ]

    def join(self) -> None:
        """The other ranks, and this one's machine."""
        peers = self.peers
        if self.check("launcher", lambda note: check_variables(note, self.subject.config)):
            self.check("backend", lambda note: form_group(note, peers))
        self.check("world", lambda note: describe_world(note, peers))
        self.check("devices", lambda note: check_devices(note, peers.device, peers.on_this_node))
        self.check("bf16", lambda note: check_bf16(note, peers.device, self.subject.config))

    def look_at_shards(self) -> None:
        """The manifest, and samples."""
        subject = self.subject
        if not subject.shards:
            self._skip("shards", "give --data.shards DIR")
            return
        settings = subject.config.data if subject.config else None
        self.manifest = manifest = self.check(
            "shards", lambda note: check_manifest(note, subject.shards, settings)
        )
        if manifest is not None:
            if not self.check("fetching", lambda note: try_fetching(note, manifest, subject.world)):
                return
            self.reading = self.check("reading", lambda note: try_reading(note, manifest, subject.world))

    def look_at_plan(self) -> None:
        """The configuration against shards, world and memory."""
        if self.subject.config is None:
            self._skip("configuration", "give --config; batch, memory and speed depend on it")
            return
        self._fit(self.subject.config)
        config, ranks = self.subject.config, self.peers.size
        if config.train.precision == "auto":
            config = with_precision(config, automatic(self.peers.device))
        if self.subject.simulate:
            config, ranks = self._simulated(config, self.subject.simulate), self.subject.simulate
        images = len(self.manifest.splits["train"]) if self.manifest else None
        self.check("recipe", lambda note: check_advice(note, config, images))
        self._plan(config, ranks)

    def _fit(self, config: Config) -> None:
        manifest = self.manifest
        if manifest is not None:
            self.check("configuration", lambda note: check_fit(note, config, manifest))
            self.check("cache", lambda note: check_cache(note, manifest))
        self.check("batch", lambda note: check_batch(note, config, self.subject.world.size))

    def _simulated(self, config: Config, ranks: int) -> Config:
        return self.check("simulation", lambda note: with_enough_groups(note, config, ranks)) or config

    def _plan(self, config: Config, ranks: int) -> None:
        share, here = len(largest_share(config, ranks)), self.peers.on_this_node
        classes = len(self.manifest.classes) if self.manifest else 2
        self.check("loaders", lambda note: check_loaders(note, config, self.manifest, share, here))
        sizes = self.check("memory", lambda _: sizes_of(config, classes))
        if sizes is None:
            return
        device, manifest = self.peers.device, self.manifest
        fits = self.check(
            "memory", lambda note: check_memory(note, config, manifest, sizes, device, ranks, here)
        )
        if self.subject.simulate:
            self.check("launches", lambda note: check_launches(note, config, classes, share, ranks))
        self.plan = Plan(config, ranks, share, classes, sizes, bool(fits))

    def look_at_run(self) -> None:
        """The run directory: shared, free, and with room for checkpoints."""
        subject, plan = self.subject, self.plan
        if not subject.run:
            self._skip("run.dir", "give --run.dir RUN")
            return
        path = Path(subject.run)
        if not self.check("run.dir", lambda note: check_shared(note, path, self.peers)):
            return
        self.check("checkpoints", lambda note: check_checkpoints(note, path, subject.config, self.manifest))
        if plan is not None:
            self.check("disk", lambda note: check_disk(note, path, plan.config.checkpoint, plan.sizes))

    def time_training(self) -> None:
        """Steps on this rank alone, then the network between all."""
        plan, peers = self.plan, self.peers
        if plan is not None and plan.fits:
            self.speed = self.check(
                "speed", lambda note: measure_speed(note, plan.config, plan.classes, plan.share, peers.device)
            )
        speed, reading, manifest = self.speed, self.reading, self.manifest
        if plan is not None and speed is not None and reading is not None and manifest is not None:
            nodes = -(-plan.ranks // peers.on_this_node)
            self.check(
                "data rate",
                lambda note: check_rate(note, plan.config, manifest, reading, speed.rate, nodes),
            )
        self.bandwidth = self.check("network", lambda note: time_all_reduce(note, peers))

    def compare(self) -> None:
        """Whether all ranks run the same software on the same shards."""
        if self.peers.size > 1:
            self.check("other ranks", self._compare)

    def _compare(self, note: Note) -> None:
        facts = {**self.versions, "manifest": self.manifest.digest[:12] if self.manifest else "none"}
        everyone = self.peers.gather(facts)
        unlike = []
        for name in facts:
            values = [str(one.get(name)) for one in everyone]
            if len(set(values)) > 1:
                unlike.append(
                    f"{name} ({listed([f'{value} on rank {rank}' for rank, value in enumerate(values)])})"
                )
        if unlike:
            note.fault(
                f"the ranks differ in {'; '.join(unlike)}",
                "use one environment and one data.shards on all nodes",
            )
        else:
            note.ok("all ranks have the same packages and the same manifest")

    def simulate(self) -> None:
        """On rank 0, with the slowest rank's constants."""
        subject, plan, manifest = self.subject, self.plan, self.manifest
        if not subject.simulate:
            return
        mine = (self.speed.seconds, self.reading.rate) if self.speed and self.reading else None
        measured = self.check("simulation", lambda _: self.peers.gather(mine)) or [mine]
        if plan is None or manifest is None:
            self._skip("simulation", "shards and configuration must be readable for it")
            return
        known = [constants for constants in measured if constants is not None]
        constants = None
        if len(known) == len(measured):
            constants = Constants(max(s for s, _ in known), min(d for _, d in known), self.bandwidth)
        if subject.world.is_main:
            self.check(
                "simulation",
                lambda note: self.simulated.extend(
                    simulate(note, plan.config, manifest, plan.ranks, constants, plan.sizes.gradients)
                ),
            )

    def _skip(self, name: str, why: str) -> None:
        self.check(name, lambda note: note.skipped(why))

    def answer(self) -> list[Finding]:
        """Everyone's findings as one list, the same on all ranks."""
        own, hosts = self.findings.found, self.peers.hosts
        everyone = self.check("other ranks", lambda _: self.peers.gather(own))
        return merge(everyone, hosts) if everyone else own

    def leave(self) -> None:
        """Leave at the same time: a launcher ends rank 0, though it may be speaking, as soon as another rank
        has ended with 1."""
        with suppress(WorkError):
            self.peers.gather(None)
        if distributed.is_initialized():
            distributed.destroy_process_group()
