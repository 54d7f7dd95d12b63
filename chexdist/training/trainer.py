"""The training loop: batch after batch, with its collectives, evaluations and checkpoints; every start is a
resume.
"""

import copy
import os
import time
from collections.abc import Generator, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from chexdist.config.rules import frozen
from chexdist.config.tree import Config
from chexdist.data.loader import Batch, batches, to_unit_range
from chexdist.data.manifest import Manifest
from chexdist.data.reader import SampleReader
from chexdist.distributed.collectives import Collectives, Pending
from chexdist.distributed.devices import Device, described
from chexdist.distributed.heartbeat import Heartbeat
from chexdist.distributed.replica_check import check_replicas
from chexdist.distributed.stop_request import StopRequest
from chexdist.distributed.world import World
from chexdist.errors import EXIT_STOPPED_EARLY, AgreedError
from chexdist.evaluation.findings import Findings
from chexdist.metrics import METRICS
from chexdist.metrics.value import Metric
from chexdist.run import checkpoint, layout, tracking
from chexdist.run.animation import animate
from chexdist.run.directory import RunDirectory
from chexdist.run.provenance import machine
from chexdist.run.saver import Saver
from chexdist.training import not_finite
from chexdist.training.advice import advice
from chexdist.training.checkup import Checkup
from chexdist.training.log_lines import lines_of
from chexdist.training.networks import Gan
from chexdist.training.patience import Patience
from chexdist.training.preflight import check_resumed
from chexdist.training.progress_line import TrainingProgress, closing_lines, last_words, opening_line
from chexdist.training.rank_times import RankTimes
from chexdist.training.schedule import Phase
from chexdist.training.start_from import begin_with
from chexdist.training.step import Losses, Step
from chexdist.training.stop_vote import StoppedInABatch, StopVote
from chexdist.training.traffic import Traffic
from chexdist.training.validation import Validation


@dataclass(frozen=True)
class PendingLosses:
    """The losses of the batches from `since` to `t`, whose sums over ranks are on their way."""

    since: int
    t: int
    sums: Pending
    own: Tensor
    """This rank's part of them, on its device."""


class Trainer:
    """One start of a run on one rank."""

    def __init__(
        self,
        config: Config,
        manifest: Manifest,
        world: World,
        run: RunDirectory,
        accelerator: Accelerator,
        collectives: Collectives,
        stop: StopRequest,
        heartbeat: Heartbeat,
    ) -> None:
        self.config, self.manifest, self.world, self.run_directory = config, manifest, world, run
        self.collectives, self.stop, self.heartbeat = collectives, stop, heartbeat
        self.writer = run.writer
        self.accelerator, self.device = accelerator, accelerator.device
        self.gan = Gan(config, manifest.class_counts("train"), accelerator)
        self.vote = StopVote(collectives, stop)
        self.step = Step(self.gan, world, self.vote.between_parts)
        self.validation = Validation(self.gan, manifest, collectives)
        self.saver = Saver(run, config)
        heartbeat.writes = self.saver.is_busy
        self.checkup = Checkup(config, run, len(manifest.splits["train"]))
        self.traffic = Traffic(manifest, collectives, run, config.train.batch)
        self.times = RankTimes(collectives, run, self.device)
        self.started_from: dict[str, str] | None = None
        self.since = 0
        """Batches whose losses are in the log."""
        self.saved = 0
        """Batches of the newest checkpoint."""
        batch = config.train.batch
        self.total = -(-config.train.images // batch)
        self.evaluations = Phase("evaluate", config.eval.every or self.total * batch)
        self.checkpoints = Phase("checkpoint", config.checkpoint.every or self.total * batch)

    def run(self) -> int:
        """Resume, train, leave; see `train`."""
        began = time.monotonic()
        self.step.warm_up()
        self.vote.warmed_up(time.monotonic() - began)
        first = self.resume()
        devices = self.collectives.gather(Device.here(self.world, os.environ))
        progress = TrainingProgress(self.total * self.config.train.batch, first * self.config.train.batch)
        if self.world.is_main:
            samples = len(self.manifest.splits["train"])
            where = f"{self.world.size} ({described(devices)}, threads: {torch.get_num_threads()})"
            progress.print_line(opening_line(self.config, samples, first, self.total, where))
            for each in advice(self.config, samples):
                progress.print_line(f"unusual: {each}")
        self.collectives.run_on_main(lambda: self.begin(first))
        self.prepare_validation(first, progress)
        display = progress if self.world.is_main else nullcontext()
        # Left open, the loader's workers would outlive an error, and the process would wait for them.
        with display, closing(self.data(first)) as data, self.saver:
            t = self.loop(first, data, progress)
            self.collectives.run_on_main(self.finish)
        done, images = t >= self.total, t * self.config.train.batch
        if self.world.is_main:
            self.run_directory.status("done" if done else "preempted", images)
            lines = closing_lines(self.checkup.judge()) + last_words(done, images, t > first)
            print("\n".join(lines), flush=True)
        return 0 if done else EXIT_STOPPED_EARLY

    def begin(self, first: int) -> None:
        """Rank 0 writes what this start is."""
        self.run_directory.describe(self.config, self.manifest, self.world, self.started_from)
        self.run_directory.status("running", first * self.config.train.batch)
        # by the thread that logs: a tracker's run may be known to the thread that began it alone
        self.writer.put(lambda: tracking.begin(self.accelerator, self.run_directory.path))
        self.writer.flush()

    def finish(self) -> None:
        """Rank 0 waits until all is written."""
        self.saver.wait()
        self.writer.put(lambda: tracking.end(self.accelerator))
        self.writer.flush()
        animate(self.run_directory.path)

    def resume(self) -> int:
        """Load the newest whole checkpoint, if there is one, and truncate the logs to it. Returns its number
        of batches.
        """
        path, problems = self.collectives.from_main(lambda: checkpoint.newest(self.run_directory.path))
        for problem in problems if self.world.is_main else []:
            print(f"chexdist: {problem}", flush=True)
        if path is None:
            self.collectives.run_on_main(lambda: self.run_directory.truncate(-1))
            self.run_directory.health = None
            if self.config.train.start:
                self.started_from = begin_with(self.config, self.gan, self.collectives)
            return 0
        state = checkpoint.read_state(path)
        check_resumed(state.settings, state.manifest, self.config, self.manifest)
        checkpoint.load(path, self.gan.state())
        self.since, self.saved = state.since if state.unlogged else state.t, state.t
        self.started_from = state.started_from
        self.step.losses = Losses.of(state.unlogged, self.world, self.device)
        self.collectives.run_on_main(lambda: self.saver.resume(state.images))
        self.collectives.run_on_main(self.checkup.resume)
        if self.world.is_main:
            changed = {key for key, value in machine(self.world).items() if state.machine.get(key) != value}
            note = f"; {', '.join(sorted(changed))} changed, so rounding will differ" if changed else ""
            print(f"chexdist: resuming from {path.name}{note}", flush=True)
        return state.t

    def prepare_validation(self, first: int, progress: TrainingProgress) -> None:
        """Measure what does not change, and the untrained generator on a fresh start."""
        self.heartbeat.at(first * self.config.train.batch, "measuring real images")
        baselines = self.validation.baselines()
        for name, reason in self.validation.refused.items() if self.world.is_main else ():
            progress.print_line(f"{METRICS[name].label} is not computed: {reason}")
        if first == 0:
            samples = range(min(64, len(self.manifest.splits["train"])))
            self.record(layout.REAL, baselines)
            self.collectives.run_on_main(
                lambda: self.run_directory.draw_samples(
                    layout.REAL, self.validation.real.images("train", samples)
                )
            )
            self.evaluate(0, progress)

    def loop(self, t: int, data: Iterator[Batch], progress: TrainingProgress) -> int:
        """Train from batch t on; returns the number of batches done.

        The sum of losses over ranks is read after the batch that follows, so that neither ranks nor the
        device wait for it, unless something is done with it at once. So it is with stop requests."""
        batch = self.config.train.batch
        pending: PendingLosses | None = None
        while t < self.total:
            t += 1
            last = t == self.total
            save = last or self.checkpoints.due((t - 1) * batch, t * batch)
            evaluate = last or self.evaluations.due((t - 1) * batch, t * batch)
            self.vote.begin()
            trained = self.train_batch(t - 1, data, progress)
            if pending:
                self.log_losses(pending, progress)
                pending = None
            if not trained:
                return self.stop_before(t - 1)
            stopping = self.vote.end() and not last
            if save or evaluate or t % self.config.control.every == 0:
                pending = self.sum_losses(t)
                if save or evaluate or stopping:
                    self.log_losses(pending, progress)
                    pending = None
            if self.world.is_main:
                progress.update(t * batch)
            self.traffic.log(t, last or stopping, progress)
            self.times.log(t * batch, self.vote.elapsed, progress)
            if evaluate:
                self.heartbeat.at(t * batch, "evaluating")
                save = self.evaluate(t * batch, progress) or save
                save = save or self.config.train.unhealthy == "stop"
            if save or stopping:
                self.heartbeat.at(t * batch, "saving")
                self.save(t, early=not save)
            if evaluate or save:
                self.times.begin()
            if evaluate and self.config.train.unhealthy == "stop":
                self.stop_if_hopeless()
            if stopping:
                break
        return t

    def stop_before(self, t: int) -> int:
        """Save the t batches that are done, unless they are saved; returns t."""
        if t != self.saved:
            self.heartbeat.at(t * self.config.train.batch, "saving")
            self.save(t, early=True)
        return t

    def train_batch(self, t: int, data: Iterator[Batch], progress: TrainingProgress) -> bool:
        """Global batch t, from the loader into the networks. Returns whether it was done: if not, all ranks
        are as before it.
        """
        self.heartbeat.at(t * self.config.train.batch, "training")
        waiting = time.monotonic()
        pixels, labels = next(data)
        waited = time.monotonic() - waiting
        progress.waited += waited
        self.times.trained(waited)
        images = to_unit_range(pixels.to(self.device, non_blocking=True), self.manifest.bits, self.step.dtype)
        before = copy.deepcopy(self.step.losses) if self.vote.slow else self.step.losses
        try:
            self.step(t, images, labels.to(self.device, non_blocking=True))
        except StoppedInABatch:
            self.step.losses = before
            return False
        return True

    def data(self, first: int) -> Generator[Batch, None, None]:
        """This rank's share of each global batch, from batch `first` on."""
        train, data = self.config.train, self.config.data
        return batches(
            SampleReader(self.manifest, "train", data.memory, self.collectives.gather),
            seed=train.seed,
            window=data.window,
            batch=train.batch,
            share=self.step.share,
            first=first,
            workers=data.workers,
            pin=self.device.type == "cuda",
            waiting=Patience(self.config, self.manifest, self.stop),
        )

    def sum_losses(self, t: int) -> PendingLosses:
        """Start to sum over ranks the losses since the last sum, and how often a value was not finite."""
        own = self.rank_sums()
        pending = PendingLosses(self.since, t, self.collectives.all_reduce_async(own), own)
        self.step.losses, self.since = Losses.zero(self.device), t
        return pending

    def rank_sums(self) -> Tensor:
        """This rank's losses since the last sum, how often a value was not finite, and `HealthSums`; float64
        [4 + len(NAMES)].
        """
        losses = self.step.losses
        broken = losses.not_finite + (~torch.isfinite(self.gan.weight_norm())).double()
        own = torch.stack([losses.critic, losses.penalty, losses.generator, broken])
        return torch.cat([own, losses.health.values])

    def log_losses(self, pending: PendingLosses, progress: TrainingProgress) -> None:
        """Wait for the sums and log them.

        Raises:
            AgreedError: on all ranks, if a gradient or a weight was not finite since the last sum.
        """
        critic, penalty, generator, broken, *health = pending.sums.result().tolist()
        since, t = pending.since, pending.t
        self.refuse_not_finite(broken, pending.own, since, t)
        lines = lines_of(self.config, since, t, [critic, penalty, generator, *health])
        self.log(lines)
        shown = [each for each in lines if each.name.startswith("loss/")]
        progress.now = ", ".join(f"{each.name.removeprefix('loss/')} {each.value:.3f}" for each in shown)

    def refuse_not_finite(self, count: float, own: Tensor, since: int, t: int) -> None:
        if count:
            batch = self.config.train.batch
            ranks = self.collectives.gather(not_finite.Seen.of(own, self.gan.weight_norm()))
            cause = (
                f"gradients or weights are not finite between images {since * batch} and {t * batch}: "
                f"{not_finite.cause(ranks, self.config.train.precision)}"
            )
            if self.world.is_main:
                self.checkup.judge(cause)
            raise AgreedError(cause)

    def log(self, metrics: list[Metric]) -> None:
        """Rank 0's thread writes these. What went wrong with earlier ones is raised on all ranks."""

        def write() -> None:
            self.saver.check()
            self.write(metrics)
            self.checkup.add(metrics)

        self.collectives.run_on_main(write)

    def write(self, metrics: list[Metric]) -> None:
        self.run_directory.log(metrics)
        self.writer.put(lambda: tracking.track(self.accelerator, metrics))

    def record(self, name: str, found: Findings) -> None:
        """Rank 0 writes what was measured: first the draws, called `name`, by which runs are compared."""
        self.collectives.run_on_main(lambda: self.run_directory.write_draws(name, found.draws))
        self.log(found.metrics)

    def evaluate(self, images: int, progress: TrainingProgress) -> bool:
        """Measure, write and show. Returns whether all ranks agree that this is worth a checkpoint."""
        found, samples, health = self.validation.evaluate(images)
        self.record(layout.after(images), found)
        self.collectives.run_on_main(lambda: self.check_up(found, health, images, progress))
        self.collectives.run_on_main(lambda: self.run_directory.draw_samples(layout.after(images), samples))
        for metric in found.metrics if self.world.is_main else ():
            interval = "" if metric.low is None else f" [{metric.low:.4g}, {metric.high:.4g}]"
            progress.print_line(
                f"{images} images: {metric.name} {metric.value:.4g}{interval}, "
                f"real X-rays {metric.real_baseline:.4g}, n {metric.n}"
            )
        return self.collectives.broadcast(self.saver.is_best(found.metrics))

    def check_up(
        self, found: Findings, health: dict[str, float], images: int, progress: TrainingProgress
    ) -> None:
        """Rank 0 logs the measures of health and the verdict, and shows it."""
        lines = self.checkup.evaluated(found, health, images)
        self.write(lines)
        self.writer.flush()
        progress.evaluated(self.checkup)
        if self.checkup.verdict and self.checkup.verdict.is_ill:
            progress.print_line(f"{images} images: {self.checkup.verdict}")

    def stop_if_hopeless(self) -> None:
        """Raises AgreedError, on all ranks, where two evaluations in a row were judged ill."""
        verdict = self.collectives.broadcast(self.checkup.verdict if self.checkup.hopeless else None)
        if verdict is not None:
            raise AgreedError("; ".join(closing_lines(verdict)) + " (train.unhealthy stop)")

    def save(self, t: int, early: bool = False) -> None:
        """Compare the ranks' states, then rank 0 copies its own and writes it while training continues;
        `early`: for a stop alone.

        Raises:
            AgreedError: on all ranks, when their states differ, when the save before this one failed (one
                that fails later is noticed at the next log line), or when a value was not finite since the
                last sum.
        """
        images, tensors = t * self.config.train.batch, self.gan.state()
        check_replicas(
            {
                f"{file.removesuffix('.safetensors')} {name}": tensor
                for file, named in tensors.items()
                for name, tensor in named.items()
            },
            self.collectives,
            images,
        )
        own = self.rank_sums()
        unlogged = self.collectives.all_gather(own[None]) if self.since < t else torch.empty(0, len(own))
        self.refuse_not_finite(float(unlogged[:, 3].sum()), own, self.since, t)
        state = checkpoint.State(
            t=t,
            images=images,
            settings=frozen(self.config),
            manifest=self.manifest.digest,
            classes=dict(zip(self.manifest.classes, self.manifest.class_counts("train"), strict=True)),
            machine=machine(self.world),
            since=self.since,
            unlogged=torch.cat([unlogged[:, :3], unlogged[:, 4:]], 1).tolist(),
            started_from=self.started_from,
            early=early,
        )
        self.collectives.run_on_main(lambda: self.saver.start(tensors, state))
        self.saved = t
