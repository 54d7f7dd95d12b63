"""The training loop: batch after batch, with its meetings, evaluations and checkpoints; every start is a resume."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor

from chexdist.config.rules import frozen
from chexdist.config.tree import Config
from chexdist.data.loader import Batch, batches, to_unit_range
from chexdist.data.manifest import Manifest
from chexdist.data.reader import SampleReader
from chexdist.distributed.collectives import Together
from chexdist.distributed.heartbeat import Heartbeat
from chexdist.distributed.replica_check import check_alike
from chexdist.distributed.world import World
from chexdist.errors import EXIT_STOPPED_EARLY, AgreedError
from chexdist.metrics.value import Metric
from chexdist.run import checkpoint, tracking
from chexdist.run.directory import RunDirectory, machine
from chexdist.run.saver import Saving
from chexdist.training.networks import Gan
from chexdist.training.preflight import check_resumed
from chexdist.training.progress_line import TrainingProgress
from chexdist.training.schedule import Phase
from chexdist.training.step import Losses, Step
from chexdist.training.stop_request import StopRequest
from chexdist.training.traffic import Traffic
from chexdist.training.validation import Evaluator


class Trainer:
    """One start of a run on one rank."""

    def __init__(
        self,
        config: Config,
        manifest: Manifest,
        world: World,
        run: RunDirectory,
        accelerator: Accelerator,
        together: Together,
        stop: StopRequest,
        heartbeat: Heartbeat,
    ) -> None:
        self.config, self.manifest, self.world, self.run_directory = config, manifest, world, run
        self.together, self.stop, self.heartbeat = together, stop, heartbeat
        self.accelerator, self.device = accelerator, accelerator.device
        self.gan = Gan(config, manifest.class_counts("train"), accelerator)
        self.step = Step(self.gan, world)
        self.evaluator = Evaluator(self.gan, manifest, self.together)
        self.saving = Saving(run, config)
        self.traffic = Traffic(manifest, together, run, config.train.batch)
        self.since = 0
        """Batches whose losses are in the log."""
        batch = config.train.batch
        self.total = -(-config.train.images // batch)
        self.evaluations = Phase("evaluate", config.eval.every or self.total * batch)
        self.checkpoints = Phase("checkpoint", config.checkpoint.every or self.total * batch)

    def run(self) -> int:
        """Resume, train, leave; see `train`."""
        self.step.warm_up()
        first = self.resume()
        progress = TrainingProgress(self.total * self.config.train.batch, first * self.config.train.batch)
        if self.world.is_main:
            progress.say(self.about(first))
        self.together.on_main(lambda: self.begin(first))
        self.prepare_evaluation(first, progress)
        shown = progress if self.world.is_main else nullcontext()
        # Left open, the loader's workers would outlive an error, and the process would wait for them.
        with shown, closing(self.data(first)) as data, self.saving:
            t = self.loop(first, data, progress)
            self.together.on_main(self.saving.wait)
        done, images = t >= self.total, t * self.config.train.batch
        if self.world.is_main:
            self.run_directory.status("done" if done else "preempted", images)
            if not done:
                print(f"chexdist: saved images-{images}; the same command goes on from there", flush=True)
            elif first == t:
                print(
                    f"chexdist: all {images} images were done before; give more by --train.images", flush=True
                )
        return 0 if done else EXIT_STOPPED_EARLY

    def about(self, first: int) -> str:
        """What is about to be trained, by whom and on what: the world that was got may not be the one that was meant."""
        config = self.config
        slow = ""
        if config.train.precision == "bf16" and self.device.type == "cpu":
            slow = "; many CPUs only emulate bf16, slowly: `chexdist doctor` measures it"
        return (
            f"{config.model.name} of {config.model.size} px on {len(self.manifest.splits['train'])} X-rays, images "
            f"{first * config.train.batch} to {self.total * config.train.batch} in batches of {config.train.batch}; "
            f"ranks: {self.world.size} ({self.device.type}, threads: {torch.get_num_threads()}){slow}"
        )

    def begin(self, first: int) -> None:
        """Rank 0 writes what this start is."""
        self.run_directory.describe(self.config, self.manifest.digest, self.world)
        self.run_directory.status("running", first * self.config.train.batch)
        tracking.begin(self.accelerator, self.run_directory.path)

    def resume(self) -> int:
        """Load the newest checkpoint that is whole, if there is one, and cut the logs back to it. Returns its batch number."""
        path, problems = checkpoint.newest(self.run_directory.path) if self.world.is_main else (None, [])
        path = self.together.from_main(path)
        for problem in problems:
            print(f"chexdist: {problem}", flush=True)
        if path is None:
            self.together.on_main(lambda: self.run_directory.cut_back(-1))
            return 0
        state = checkpoint.read_state(path)
        check_resumed(state.settings, state.manifest, self.config, self.manifest)
        checkpoint.load(path, self.gan)
        self.since = state.since if state.unlogged else state.t
        self.step.losses = Losses.of(state.unlogged, self.world, self.device)
        self.together.on_main(lambda: self.saving.go_on(state.images))
        if self.world.is_main:
            changed = {key for key, value in machine(self.world).items() if state.machine.get(key) != value}
            note = f"; {', '.join(sorted(changed))} changed, so rounding will differ" if changed else ""
            print(f"chexdist: going on from {path.name}{note}", flush=True)
        return state.t

    def prepare_evaluation(self, first: int, progress: TrainingProgress) -> None:
        """Measure what does not change, and the untrained generator on a fresh start."""
        self.heartbeat.at(first * self.config.train.batch, "measuring real images")
        baselines = self.evaluator.baselines()
        if self.world.is_main and self.evaluator.refusal:
            progress.say(f"KID is not computed: {self.evaluator.refusal}")
        if first == 0:
            shown = range(min(64, len(self.manifest.splits["train"])))
            self.log(baselines)
            self.together.on_main(
                lambda: self.run_directory.grid("real", self.evaluator.real.images("train", shown))
            )
            self.evaluate(0, progress)

    def loop(self, t: int, data: Iterator[Batch], progress: TrainingProgress) -> int:
        """Train from batch t on; returns the number of batches done.

        Before each batch the ranks are asked whether to stop; the answer is looked at after the batch, so that neither they nor the
        device wait for it. So it is with losses: what a meeting brings is looked at after the batch that follows, unless something is done
        with it at once.
        """
        batch = self.config.train.batch
        heard: Callable[[], None] | None = None
        while t < self.total:
            t += 1
            last = t == self.total
            save = last or self.checkpoints.due((t - 1) * batch, t * batch)
            evaluate = last or self.evaluations.due((t - 1) * batch, t * batch)
            vote = self.together.sums_later(torch.tensor([float(self.stop.asked)]))
            self.learn(t - 1, data, progress)
            if heard:
                heard()
                heard = None
            stopping = bool(vote()) and not last
            if save or evaluate or t % self.config.control.every == 0:
                heard = self.meet(t, progress)
                if save or evaluate or stopping:
                    heard()
                    heard = None
            if self.world.is_main:
                progress.update(t * batch)
            self.traffic.tell(t, last or stopping, progress)
            if evaluate:
                self.heartbeat.at(t * batch, "evaluating")
                save = self.evaluate(t * batch, progress) or save
            if save or stopping:
                self.heartbeat.at(t * batch, "saving")
                check_alike(self.gan, self.together, t * batch)
                self.save(t)
            if stopping:
                break
        return t

    def learn(self, t: int, data: Iterator[Batch], progress: TrainingProgress) -> None:
        """Global batch t, from the loader into the networks."""
        self.heartbeat.at(t * self.config.train.batch, "training")
        waiting = time.monotonic()
        pixels, labels = next(data)
        progress.waited += time.monotonic() - waiting
        images = to_unit_range(pixels.to(self.device, non_blocking=True), self.manifest.bits, self.step.dtype)
        self.step(t, images, labels.to(self.device, non_blocking=True))

    def data(self, first: int) -> Generator[Batch, None, None]:
        train, data = self.config.train, self.config.data
        return batches(
            SampleReader(self.manifest, "train", data.memory),
            seed=train.seed,
            window=data.window,
            batch=train.batch,
            share=self.step.share,
            first=first,
            workers=data.workers,
            pin=self.device.type == "cuda",
        )

    def meet(self, t: int, progress: TrainingProgress) -> Callable[[], None]:
        """One sum over the ranks: the losses since the last meeting, and whether a value was not finite. What is returned hears of
        it and writes it down.

        Raises:
            AgreedError: when heard, on all ranks, if a gradient or a weight was not finite since the last meeting.
        """
        sums, since = self.together.sums_later(self.measured()), self.since
        self.step.losses, self.since = Losses.zero(self.device), t
        return lambda: self.hear(since, t, sums(), progress)

    def measured(self) -> Tensor:
        """This rank's sums since the last meeting: the losses, and how often a value was not finite; float64 [4]."""
        losses = self.step.losses
        broken = losses.not_finite + (~torch.isfinite(self.gan.weight_norm())).double()
        return torch.stack([losses.critic, losses.penalty, losses.generator, broken])

    def hear(self, since: int, t: int, sums: Tensor, progress: TrainingProgress) -> None:
        """Log the losses of batches `since` to t, or give up; see `meet`."""
        critic, penalty, generator, not_finite = sums.tolist()
        batch, n_critic = self.config.train.batch, self.config.train.n_critic
        self.refuse(not_finite, since, t)
        shown, made = (t - since) * batch, (t // n_critic - since // n_critic) * batch
        means = {
            "loss/critic": (critic, shown),
            "loss/penalty": (penalty, shown),
            "loss/generator": (generator, made),
        }
        values = {name: total / count for name, (total, count) in means.items() if count}
        if self.config.penalty.name == "none":
            del values["loss/penalty"]
        lines = [self._loss(name, value, t, shown) for name, value in values.items()]
        self.log(lines)
        progress.now = ", ".join(
            f"{name.removeprefix('loss/')} {value:.3f}" for name, value in values.items()
        )

    def refuse(self, not_finite: float, since: int, t: int) -> None:
        if not_finite:
            batch = self.config.train.batch
            raise AgreedError(
                f"gradients or weights are not finite between images {since * batch} and {t * batch}; the last checkpoint "
                "is from before: lower optim.*.lr, or set train.precision no"
            )

    def _loss(self, name: str, value: float, t: int, shown: int) -> Metric:
        images, step = t * self.config.train.batch, t // self.config.train.n_critic
        return Metric(images, step, name, "mean per image", value, shown, None, None, None, None, time.time())

    def log(self, metrics: list[Metric]) -> None:
        """Rank 0 writes these."""

        def write() -> None:
            self.saving.check()
            self.run_directory.log(metrics)
            tracking.track(self.accelerator, metrics)

        self.together.on_main(write)

    def evaluate(self, images: int, progress: TrainingProgress) -> bool:
        """Measure, write and show. Returns whether all agree that this is worth a checkpoint."""
        metrics, grid = self.evaluator.evaluate(images)
        self.log(metrics)
        self.together.on_main(lambda: self.run_directory.grid(f"images-{images}", grid))
        for metric in metrics if self.world.is_main else ():
            progress.say(
                f"{images} images: {metric.name} {metric.value:.1f} [{metric.low:.1f}, {metric.high:.1f}], "
                f"floor {metric.floor:.1f}, n {metric.n}"
            )
        return self.together.from_main(self.saving.is_best(metrics))

    def save(self, t: int) -> None:
        """Rank 0 copies, and writes while training goes on, since the state is the same on all ranks.

        Raises:
            AgreedError: on all ranks, when the save before this one failed (one that fails later is noticed at a meeting), or when a value
                was not finite since the last meeting.
        """
        images = t * self.config.train.batch
        unlogged = self.together.rows(self.measured()[None]) if self.since < t else torch.empty(0, 4)
        self.refuse(float(unlogged[:, 3].sum()), self.since, t)
        classes = dict(zip(self.manifest.classes, self.manifest.class_counts("train"), strict=True))
        settings = frozen(self.config)
        state = checkpoint.State(
            t,
            images,
            settings,
            self.manifest.digest,
            classes,
            machine(self.world),
            self.since,
            unlogged[:, :3].tolist(),
        )
        self.together.on_main(lambda: self.saving.start(self.gan, state))
