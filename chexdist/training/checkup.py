"""Decides what rank 0 makes of the measures of health: lines of the log, a verdict, and whether to stop."""

import time

from chexdist.config.rules import frozen
from chexdist.config.tree import Config
from chexdist.evaluation.findings import Findings
from chexdist.metrics.difference import Sample, paired_difference
from chexdist.metrics.value import Metric
from chexdist.run import draws, layout
from chexdist.run.curves import KID, Curves
from chexdist.run.directory import RunDirectory
from chexdist.run.log import read_log
from chexdist.run.verdict import HEALTHY, TOO_EARLY, VERDICTS, Verdict, judge

LINE = "health/verdict"
ILL = min(VERDICTS.index(name) for name in VERDICTS if name not in (HEALTHY, TOO_EARLY))


class Checkup:
    """The run's curves so far, and the newest verdict. Rank 0 has one; it enters no collective."""

    def __init__(self, config: Config, run: RunDirectory, training_images: int) -> None:
        self.config, self.run, self.training_images = config, run, training_images
        self.curves = Curves()
        self.settings = {
            **frozen(config),
            "train.images": config.train.images,
            "eval.every": config.eval.every,
        }
        self.verdict: Verdict | None = None
        self._ill_before = False

    def resume(self) -> None:
        """Read what the run has logged so far."""
        self.curves = Curves(read_log(self.run.path) if self.run.has_log() else [])

    def add(self, metrics: list[Metric]) -> None:
        """What has just been logged."""
        for metric in metrics:
            self.curves.add(metric)

    def judge(self, failed: str = "") -> Verdict:
        """The verdict now; it stands in the status from the next time on that this is written.

        failed: why the training is about to fail, if it is.
        """
        state = "failed" if failed else ""
        self.verdict = judge(self.curves, self.settings, state, failed, self.training_images)
        self.run.health = self.verdict.to_dict()
        return self.verdict

    def evaluated(self, found: Findings, health: dict[str, float], images: int) -> list[Metric]:
        """The lines of an evaluation that is in the log already: its measures of health, KID against the best
        before it, and the verdict.
        """
        lines = [self._line(images, name, "share", value) for name, value in health.items()]
        lines += self._over_best(found, images)
        self.add(lines)
        before = self.curves.value(LINE, images - 1)
        self._ill_before = before is not None and before >= ILL
        verdict = self.judge()
        line = self._line(images, LINE, f"verdict: {verdict.title}", VERDICTS.index(verdict.name))
        self.curves.add(line)
        return [*lines, line]

    @property
    def hopeless(self) -> bool:
        """Whether two evaluations in a row were judged ill."""
        return self.verdict is not None and self.verdict.is_ill and self._ill_before

    def _over_best(self, found: Findings, images: int) -> list[Metric]:
        """KID less the lowest before it, under the same weights of the bootstrap."""
        now = next((each for each in found.metrics if each.name == KID), None)
        if now is None or now.protocol is None:
            return []
        key = (now.protocol, KID)
        earlier = [each for each in self.curves.evaluations(images - 1) if each.images]
        comparable = [each for each in earlier if each.protocol == now.protocol]
        if not comparable or key not in found.draws:
            return []
        best = min(comparable, key=lambda each: each.value)
        known = draws.read(layout.draws_of_training(self.run.path, layout.after(best.images)))
        if key not in known:
            return []
        difference = paired_difference(
            Sample(now.value, found.draws[key].numpy()), Sample(best.value, known[key])
        )
        ends = (difference.low, difference.high)
        return [self._line(images, "health/kid_over_best", now.unit, difference.value, ends, now.n)]

    def _line(
        self,
        images: int,
        name: str,
        unit: str,
        value: float,
        ends: tuple[float, float] | None = None,
        n: int | None = None,
    ) -> Metric:
        train = self.config.train
        low, high = ends or (None, None)
        step, count = images // train.batch // train.n_critic, n or self.config.eval.samples
        return Metric(images, step, name, unit, value, count, low, high, None, None, time.time())
