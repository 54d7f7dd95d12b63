"""What of a run's log its health is judged by: curves over images, and what can be asked of them."""

from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise

from chexdist.metrics.value import Metric

KID, MEAN_IMAGE, REAL = "kid_x1000", "kid_x1000/mean_image", "kid_x1000/real"
LEAST_WINDOW, WINDOW_SHARE = 2000, 0.1
POINTS = 60


class Curves:
    """Values by name, in order of images. Several of one name after as many images: the last counts."""

    def __init__(self, log: Iterable[Metric] = ()) -> None:
        self._metrics: dict[str, list[Metric]] = {}
        self._images: dict[str, list[int]] = {}
        for metric in log:
            self.add(metric)

    def add(self, metric: Metric) -> None:
        """One more line of the log."""
        self._metrics.setdefault(metric.name, []).append(metric)
        self._images.setdefault(metric.name, []).append(metric.images)

    def names(self, start: str) -> list[str]:
        """The names that begin so."""
        return [name for name in self._metrics if name.startswith(start)]

    def all(self, name: str) -> list[Metric]:
        return self._metrics.get(name, [])

    def at(self, name: str, images: int) -> Metric | None:
        """The newest of that name after at most so many images."""
        found = bisect_right(self._images.get(name, []), images)
        return self._metrics[name][found - 1] if found else None

    def value(self, name: str, images: int) -> float | None:
        """Its value."""
        found = self.at(name, images)
        return None if found is None else found.value

    def mean(self, name: str, images: int) -> float | None:
        """Weighted by n, over the last `window` images, or of the newest line; None without any."""
        known = self._images.get(name, [])
        end, start = bisect_right(known, images), bisect_right(known, images - window(images))
        part = self._metrics[name][min(start, end - 1) : end] if end else []  # at least the newest
        total = sum(each.n for each in part)
        return sum(each.value * each.n for each in part) / total if total else None

    def evaluations(self, images: int) -> list[Metric]:
        """KID of the newest protocol, up to so many images, the untrained generator's first."""
        found = [each for each in self.all(KID) if each.images <= images]
        return [each for each in found if each.protocol == found[-1].protocol]

    def last(self) -> int:
        """Images at the last line."""
        return max((known[-1] for known in self._images.values()), default=0)

    def points(self) -> list[int]:
        """Numbers of images at which the run is judged, rising: each evaluation, and POINTS log lines."""
        losses = self._images.get("loss/critic", [])
        chosen = losses[:: max(1, len(losses) // POINTS)] + losses[-1:]
        found = sorted({*chosen, *(each.images for each in self.all(KID))})
        # a window that is not full would judge the first batches
        return [images for images in found if images >= LEAST_WINDOW] or found[-1:]

    def jumped(self, name: str, images: int, factor: float) -> float | None:
        """How many times the median of all before the window the mean of the window is, if by `factor`."""
        before = [each.value for each in self.all(name) if each.images <= images - window(images)]
        now = self.mean(name, images)
        if len(before) < 4 or now is None:
            return None
        usual = sorted(map(abs, before))[len(before) // 2]
        return abs(now) / usual if usual and abs(now) > factor * usual else None

    def rises(self, name: str) -> int:
        """How often a value is above the one before; for the notes of a run."""
        return sum(b.value > a.value for a, b in pairwise(self.all(name)))


def window(images: int) -> int:
    """Images over which a noisy curve is averaged."""
    return max(LEAST_WINDOW, int(WINDOW_SHARE * images))
