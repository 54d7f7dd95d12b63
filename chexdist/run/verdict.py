"""Decides whether a training is healthy, by stated rules from its log: a verdict, its numbers, since when.

docs/health.md has the rules in words. Each is a function of the curves and a number of images; the first
that applies, in the order of RULES, is the verdict. Light: reports and diagnoses of old runs use it, without
torch.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import mean

from chexdist.metrics.value import Metric
from chexdist.run.cures import cures
from chexdist.run.curves import KID, LEAST_WINDOW, MEAN_IMAGE, REAL, Curves, window

HEALTHY, TOO_EARLY = "healthy", "too early"
VERDICTS = (
    *(HEALTHY, TOO_EARLY, "critic at chance", "critic wins", "critic memorises", "collapsed"),
    *("worse than the mean image", "past its best", "diverged", "labels swapped"),
)
CHANCE = {"non-saturating": 2 * math.log(2), "relativistic": math.log(2), "hinge": 2.0}
"""The loss of a critic that gives all images one score; a Wasserstein critic's has no scale."""
NEAR_CHANCE, CHANCE_WINS, RARELY_WRONG = 0.97, 0.55, 0.9
ALWAYS_FOOLED = 0.25
"""Share of pairs below which a critic is not learning, so that images collapse for that reason."""
FLAT = 0.5
"""Standard deviation of scores above which a loss as at chance is that of a sure critic, often wrong."""
WASSERSTEIN, NO_DIFFERENCE = "wasserstein", 0.1
"""A Wasserstein critic at chance: its loss, the difference of mean scores, over their standard deviation."""
FAR_ABOVE = 3.0
"""Times the loss of chance from which a critic that is mostly right has scores without any bound."""
FAR_APART = 100.0
"""Standard deviation of real images' scores that no critic needs whose loss has a scale."""
SURE, SURE_WINS = 0.05, 0.98
MEMORISED, SURELY_MEMORISED, MEMORISED_FOR = 0.8, 0.9, 3
"""The first as a mean of so many evaluations, since one of few images varies; the second once."""
ONE_IMAGE, NEARLY_ZERO = 0.2, 0.05
"""Share of the diversity of real X-rays below which generated ones are nearly one image; the second, while
KID falls.
"""
SUSTAINED = ("critic at chance", "critic wins")
"""What must have lasted for LEAST_WINDOW images, since losses come and go."""
EARLIEST, GROWN = 4_000, 20_000
UNMOVED = 0.005
TELLING = 0.2
"""How far from 0.5 the agreement of training images' labels with held-out ones' must be to judge others'."""
CLOSE = 0.1
"""Share of the mean image's KID below which a critic at chance is one that can't know better."""
IMPROVED, WORSENED = 0.9, 1.15
BLOWN_UP = 50.0


@dataclass(frozen=True)
class Verdict:
    """name: one of VERDICTS; detail: the class that has collapsed, if one; numbers: in words; since: images
    after which it began to be so without a break; cures: what usually helps, first what helps most.
    """

    name: str
    images: int
    since: int
    numbers: str
    detail: str = ""
    cures: tuple[str, ...] = ()

    @property
    def is_ill(self) -> bool:
        return self.name not in (HEALTHY, TOO_EARLY)

    @property
    def title(self) -> str:
        return f"{self.name} ({self.detail})" if self.detail else self.name

    def __str__(self) -> str:
        begun = "from the start" if self.since <= window(0) * 2 else f"since {self.since:,} images"
        when = f", {begun}" if self.is_ill else ""
        return f"{self.title}{when}: {self.numbers}"

    def to_dict(self) -> dict[str, object]:
        """For status.json."""
        return {
            "verdict": self.name,
            "detail": self.detail,
            "images": self.images,
            "since": self.since,
            "numbers": self.numbers,
            "cures": list(self.cures),
        }


Sign = tuple[str, str]
"""The numbers in words, and a detail."""


@dataclass(frozen=True)
class Case:
    """A run at a number of images. cause: why it failed; training_images: how many there are, if known."""

    curves: Curves
    settings: Mapping[str, object]
    images: int
    cause: str = ""
    training_images: int | None = None

    @property
    def kid(self) -> Metric | None:
        """Of the newest evaluation after the untrained generator's."""
        found = self.curves.at(KID, self.images)
        return found if found is not None and found.images else None

    @property
    def mean_image(self) -> float | None:
        return self.curves.value(MEAN_IMAGE, self.images)

    @property
    def improving(self) -> bool:
        """Whether the newest evaluation is clearly better than the one before it."""
        found = self.curves.evaluations(self.images)
        return len(found) > 1 and found[-1].value < IMPROVED * found[-2].value

    @property
    def unmoved(self) -> bool:
        """Whether the averaged generator still is the untrained one."""
        found = self.curves.evaluations(self.images)
        return (
            len(found) > 1
            and not found[0].images
            and (abs(found[-1].value - found[0].value) < UNMOVED * abs(found[0].value))
        )

    @property
    def falling(self) -> bool:
        """Whether KID is below all before it, by however little."""
        found = self.curves.evaluations(self.images)
        over_best = self.curves.at("health/kid_over_best", self.images)
        if over_best is None:  # there is but the untrained generator's
            return len(found) > 1 and found[-1].value < found[0].value
        return over_best.high is not None and over_best.high < 0

    @property
    def stuck(self) -> bool:
        """Whether KID is above the mean image's, and no longer below the best before."""
        over_best, mean = self.curves.at("health/kid_over_best", self.images), self.mean_image
        if self.kid is None or mean is None or over_best is None or over_best.high is None:
            return False
        return self.kid.value > mean and over_best.high >= 0

    def against(self) -> str:
        """KID beside what it is measured by."""
        if self.kid is None:
            if not self.curves.all(KID) and self.curves.all("health/wins_held_out"):
                return "KID can't be measured of so few X-rays"
            due = self._next_evaluation()
            return "not evaluated yet" + (f": the next evaluation comes at {due:,} images" if due else "")
        real, mean = self.curves.value(REAL, self.images), self.mean_image
        beside = [f"{mean:.0f} of always drawing the mean image"] if mean is not None else []
        beside += [f"{real:.0f} of real X-rays"] if real is not None else []
        return f"KID x1000 {self.kid.value:.0f}" + (f" against {', '.join(beside)}" if beside else "")

    def _next_evaluation(self) -> int | None:
        """Images after which it is due, those of the last batch included: an evaluation may be cut short."""
        batch, budget, every = (
            _count(self.settings, key) for key in ("train.batch", "train.images", "eval.every")
        )
        if not batch or budget is None or every is None:
            return None
        before = max(0, self.images - batch)
        due = min(budget, (before // every + 1) * every) if every else budget
        return max(self.images, -(-due // batch) * batch)


def diverged(case: Case) -> Sign | None:
    """Values not finite, or losses and gradients many times what they were, and no better for it."""
    if "not finite" in case.cause:
        return case.cause, ""
    spread = case.curves.mean("health/score_real_std", case.images)
    if _chance(case) and spread is not None and spread > FAR_APART:
        said = f"scores of real images have a standard deviation of {spread:,.0f}, usual is below 10"
        return f"{said}; {case.against()}", ""
    if case.improving:
        return None
    for name, words in (
        ("loss/critic", "the critic's loss"),
        ("health/gradient_critic", "the norm of the critic's gradient"),
        ("health/gradient_generator", "the norm of the generator's gradient"),
    ):
        factor = case.curves.jumped(name, case.images, BLOWN_UP)
        if factor:
            return f"{words} is {factor:,.0f} times its median before; {case.against()}", ""
    chance, loss = _chance(case), case.curves.mean("loss/critic", case.images)
    wins = case.curves.mean("health/wins", case.images)
    fooled = wins is not None and wins < CHANCE_WINS
    if chance and loss is not None and loss > FAR_ABOVE * chance and not fooled:
        return f"the critic's loss is {loss:.3g}, at chance it would be {chance:.2f}; {case.against()}", ""
    return None


def collapsed(case: Case) -> Sign | None:
    """Images, or those of a class, that are nearly one image."""
    if case.kid is None or case.unmoved or case.images < EARLIEST:
        return None
    wins = case.curves.mean("health/wins", case.images)
    if wins is not None and wins < ALWAYS_FOOLED:
        return None
    share = case.curves.value("health/diversity", case.images)
    if share is None:
        ours = case.curves.value("feature_distance", case.images)
        real = case.curves.value("feature_distance/real", case.images)
        share = ours / real if ours is not None and real else None
    # a plain generator begins with one image, and learns to draw others
    least = NEARLY_ZERO if case.improving or case.falling else ONE_IMAGE
    if share is not None and share < least:
        return f"generated images differ by {share:.2f} of what real X-rays do; {case.against()}", "whole"
    for name in case.curves.names("health/diversity/"):
        of_class = case.curves.value(name, case.images)
        if of_class is not None and of_class < least:
            label = name.removeprefix("health/diversity/")
            said = f"generated images of class {label} differ by {of_class:.2f} of what real ones do"
            return f"{said}; {case.against()}", f"class {label}"
    return None


def labels_swapped(case: Case) -> Sign | None:
    """Labels, of the training split or of generated images, that mean what another label means held out."""
    training = case.curves.value("health/labels/training", case.images)
    if training is None or abs(training - 0.5) < TELLING:
        return None
    if training < 0.5:
        said = (
            "by held-out images, training images have each other's labels: of a pair of two classes the right"
        )
        return f"{said} one looks like its own in {training:.0%}; {case.against()}", "training images"
    values = [
        each.value for each in case.curves.all("health/labels") if EARLIEST <= each.images <= case.images
    ]
    if len(values) < 2 or max(values[-2:]) > 0.5 - TELLING:
        return None
    said = (
        f"of two generated images of different classes the right one looks like its class in {values[-1]:.0%}"
    )
    return f"{said}, of two training images in {training:.0%}; {case.against()}", "generated images"


def at_chance(case: Case) -> Sign | None:
    """A critic that can't tell real from generated images, though they are far from real."""
    kid, mean = case.kid, case.mean_image
    if case.images < EARLIEST or kid is not None and mean is not None and kid.value < CLOSE * mean:
        return None
    wins, loss = (case.curves.mean(name, case.images) for name in ("health/wins", "loss/critic"))
    chance = _chance(case)
    by_loss = chance is not None and loss is not None and loss > NEAR_CHANCE * chance
    spread = case.curves.mean("health/score_real_std", case.images)
    by_loss = by_loss and (wins is None or wins < RARELY_WRONG) and (spread is None or spread < FLAT)
    if case.settings.get("loss.name") == WASSERSTEIN and loss is not None and spread:
        by_loss = -loss < NO_DIFFERENCE * spread
    if not by_loss and (wins is None or wins >= CHANCE_WINS):
        return None
    said = (
        [f"the critic's loss is {loss:.3f}, that of one that knows nothing {chance:.3f}"]
        if chance and loss is not None
        else []
    )
    said += [f"it scores a real image higher in {wins:.0%} of pairs"] if wins is not None else []
    return f"{', '.join(said)}; {case.against()}", ""


def critic_wins(case: Case) -> Sign | None:
    """A critic that is never wrong, and a generator that does not improve."""
    if case.images < EARLIEST or case.improving:
        return None
    if case.settings.get("loss.name") == WASSERSTEIN and not case.stuck:
        return None  # such a critic is to win: its gradient does not fade
    wins, loss = (case.curves.mean(name, case.images) for name in ("health/wins", "loss/critic"))
    chance = _chance(case)
    if wins is not None and wins >= SURE_WINS:
        said = f"the critic scores a real image higher in {wins:.1%} of pairs"
    elif wins is None and chance and loss is not None and loss < SURE * chance:
        said = f"the critic's loss is {loss:.3f}, {chance:.3f} at chance"
    else:
        return None
    return f"{said}, and the generator does not improve; {case.against()}", ""


def memorises(case: Case) -> Sign | None:
    """A critic that knows its training images from held-out ones."""
    values = [
        each.value
        for each in case.curves.all("health/training_over_held_out")
        if 0 < each.images <= case.images
    ]
    newest = values[-MEMORISED_FOR:]
    if not newest or not (newest[-1] >= SURELY_MEMORISED or len(newest) > 1 and mean(newest) >= MEMORISED):
        return None
    held_out = case.curves.value("health/wins_held_out", case.images)
    image = (
        f"one of the {case.training_images:,} training images" if case.training_images else "a training image"
    )
    said = (
        f"the critic scores {image} above a held-out one in {values[-1]:.0%} of pairs, which "
        "is 50 % where it has learned none by heart"
    )
    said += f", a held-out one above a generated one in {held_out:.0%}" if held_out is not None else ""
    return f"{said}; {case.against()}", ""


def worse_than_mean(case: Case) -> Sign | None:
    """Images further from real ones than the mean image is."""
    kid, mean = case.kid, case.mean_image
    if kid is None or mean is None or kid.value <= mean:
        return None
    if case.unmoved:
        return f"{case.against()}, as the untrained generator: it has not moved", ""
    if kid.low is not None and kid.low <= mean:
        return None
    return None if case.images < min(GROWN, _budget(case)) else (case.against(), "")


def past_best(case: Case) -> Sign | None:
    """Clearly worse than at an earlier evaluation, twice in a row or by half."""
    found = [each for each in case.curves.evaluations(case.images) if each.images]
    if len(found) < 2:
        return None
    best = min(found, key=lambda each: each.value)

    def worse(now: Metric) -> bool:
        paired = case.curves.at("health/kid_over_best", now.images)
        if paired is not None and paired.images == now.images and paired.low is not None:
            return paired.low > 0 and now.value > WORSENED * best.value
        apart = now.low is not None and best.high is not None and now.low > best.high
        return apart or now.value > 2 * WORSENED * best.value

    after = [each for each in found if each.images > best.images]
    if not after or not worse(after[-1]):
        return None
    if not (len(after) > 1 and worse(after[-2]) or after[-1].value > 1.5 * best.value):
        return None
    return f"{case.against()}, {best.value:.0f} after {best.images:,} images", ""


RULES: dict[str, Callable[[Case], Sign | None]] = {
    "diverged": diverged,
    "collapsed": collapsed,
    "critic at chance": at_chance,
    "labels swapped": labels_swapped,
    "critic memorises": memorises,
    "critic wins": critic_wins,
    "worse than the mean image": worse_than_mean,
    "past its best": past_best,
}


def judge(
    log: Curves | Iterable[Metric],
    settings: Mapping[str, object],
    state: str = "",
    cause: str = "",
    training_images: int | None = None,
) -> Verdict:
    """The verdict at the end of a log.

    Args:
        settings: `section.key` -> value, a number or its text.
        state, cause: as status.json has them; only a run that failed is judged by its cause.
        training_images: how many there are, if that is known.
    """
    curves = log if isinstance(log, Curves) else Curves(log)
    images = curves.last()
    last = Case(curves, settings, images, cause if state == "failed" else "", training_images)
    for name, rule in RULES.items():
        sign = rule(last)
        if sign is not None:
            since = images
            for point in reversed([each for each in curves.points() if each < images]):
                if (found := rule(Case(curves, settings, point))) is None or found[1] != sign[1]:
                    break
                since = point
            if name in SUSTAINED and images - since < LEAST_WINDOW:
                continue
            return Verdict(name, images, since, sign[0], sign[1], cures(name, settings, unmoved=last.unmoved))
    kid, mean = last.kid, last.mean_image
    above = kid is not None and mean is not None and kid.value > mean
    early = kid is None or images < min(EARLIEST, _budget(last)) or above and images < GROWN
    name = TOO_EARLY if early else HEALTHY
    return Verdict(name, images, images, last.against(), cures=cures(name, settings))


def _chance(case: Case) -> float | None:
    return CHANCE.get(str(case.settings.get("loss.name")))


def _budget(case: Case) -> int:
    """Images after which training ends."""
    budget = _count(case.settings, "train.images")
    return GROWN if budget is None else budget


def _count(settings: Mapping[str, object], key: str) -> int | None:
    text = str(settings.get(key, ""))
    return int(text) if text.isdecimal() and len(text) < 16 else None
