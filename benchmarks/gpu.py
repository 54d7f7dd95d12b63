"""`gpu`: what someone with a GPU runs and sends back: speed, memory and launches of every shipped
configuration, beside what the doctor estimates and assumes.
"""

import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import fmean, median
from typing import Any, get_args
from unittest.mock import patch

import torch
from torch import Tensor, distributed
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import step
from benchmarks.alternate import Effort, Side, alternate
from benchmarks.step import ALONE, CLASS_COUNTS, Ours, draw_pixels, timed
from chexdist.config.load import load_config
from chexdist.config.shipped import shipped
from chexdist.config.tree import Config, Train
from chexdist.distributed.devices import Visible, choose
from chexdist.doctor.launches import ARITHMETIC, LAUNCH, work_of
from chexdist.doctor.memory import network_terms
from chexdist.doctor.sizes import sizes_of
from chexdist.errors import UserError
from chexdist.metrics.extractor import load_extractor
from chexdist.run.sampling import prepare, sample

PRECISIONS = [each for each in get_args(Train.model_fields["precision"].annotation) if each != "auto"]
"""All that `train.precision` offers."""
CALLED = {"no": "float32"}
MIB = 1 << 20
REPEATS = 5
COLUMNS = ("images/s", "host, ms a step", "us an operator", "TFLOP/s", "peak, MiB", "doctor's estimate, MiB")
SEND = (
    "Please attach this file to a bug report or a discussion of the project. It holds these numbers, what "
    "the device and its software are called, and the words of this command."
)
DRY_RUN = "a dry run on the CPU with the least of everything: its numbers mean nothing, so don't send it"
NOTES = (
    "images/s: the production step from memory, with all that is scheduled, on one device. float32 is as "
    + "trained: TF32 is off, and algorithms are deterministic.",
    "host: until all of a step is launched, without waiting for the device. us an operator: the same of a "
    + "pass of both networks with the penalty, by all operators that it dispatches. TFLOP/s: what the doctor "
    + "counts for such a pass, by the time until the device has finished it.",
    "peak: allocated at once at most, without the pictures. The estimate is of float32 at any precision.",
    "medians over configurations: us an operator at the smallest batch, where a GPU waits for launches; "
    + "TFLOP/s at the largest that fits.",
)


@dataclass(frozen=True)
class Setting:
    """Configurations, batches of a step, further settings, and images that are drawn and embedded at once."""

    names: tuple[str, ...] = (*shipped(),)
    batches: tuple[int, ...] = (16, 64, 256)
    more: tuple[str, ...] = ()
    images: int = 1024
    dry_run: bool = False


SHIPPED = Setting()
TINY = Setting(("dcgan", "vanilla"), (16,), (*step.TINY.more, "--penalty.every", "16"), 16)


@dataclass(frozen=True)
class Result:
    """What was measured: each a row, with `what`, and `failed` where it could not be measured."""

    settings: dict[str, Any]
    measured: list[dict[str, Any]]
    dry_run: bool

    def document(self, about: dict[str, Any]) -> dict[str, Any]:
        """Everything, as it is written; `about` says when, where and how."""
        marked = {"dry_run": True} if self.dry_run else {}
        return {
            "benchmark": "gpu",
            **marked,
            **about,
            "unit": "DRY RUN" if self.dry_run else "images/s",
            "settings": self.settings,
            "columns": list(COLUMNS),
            "rows": [*map(_row, self.measured), *self._medians()],
            "notes": [*([DRY_RUN] if self.dry_run else []), *NOTES],
            "assumed": {"launch": LAUNCH, "arithmetic": ARITHMETIC},
            "measured": self.measured,
        }

    def _medians(self) -> list[dict[str, Any]]:
        """Of each precision, beside what the doctor assumes."""
        rows = []
        for precision in PRECISIONS:
            name = CALLED.get(precision, precision)
            found = [each for each in self.measured if each.get("precision") == name and "launch" in each]
            by_batch = sorted(found, key=lambda each: each["batch"])
            largest = {each["what"]: each for each in by_batch}
            smallest = {each["what"]: each for each in reversed(by_batch)}
            if found:
                launch = median(each["launch"] for each in smallest.values())
                arithmetic = median(each["arithmetic"] for each in largest.values())
                cells = ["", "", f"{1e6 * launch:.1f}", f"{arithmetic / 1e12:.3g}", "", ""]
                rows.append({"name": f"medians, {name}", "cells": cells})
        assumed = ["", "", f"{1e6 * LAUNCH:g}", f"{ARITHMETIC / 1e12:g}", "", ""]
        return [*rows, {"name": "assumed by the doctor", "cells": assumed}]


def _row(found: dict[str, Any]) -> dict[str, Any]:
    parts = [found["what"], found.get("precision"), f"batch {found['batch']}" if "batch" in found else None]
    if "rate" in found:
        rate = found["rate"]
        cells = [f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"]
    else:
        cells = [found["failed"]]
    for key, unit, digits in (("host", 1e-3, 2), ("launch", 1e-6, 1), ("arithmetic", 1e12, 2)):
        cells.append(f"{found[key] / unit:,.{digits}f}" if key in found else "")
    cells += [f"{found[key] / MIB:,.0f}" if found.get(key) else "" for key in ("peak", "estimate")]
    return {"name": ", ".join(part for part in parts if part), "cells": cells}


def require_gpu() -> None:
    """Refuse where a training would compute on the CPU.

    Raises:
        UserError: with why, and the cure.
    """
    visible = Visible.here()
    if choose(os.environ, visible, ALONE) != "cpu":
        return
    why = visible.why or "unset CUDA_VISIBLE_DEVICES and ACCELERATE_USE_CPU, which hide it"
    raise UserError(f"gpu: no GPU to measure: {why}; `gpu --dry-run` only shows on the CPU that it runs")


def measure(effort: Effort, setting: Setting = SHIPPED) -> Result:
    """All rows of `gpu`. What does not fit into memory, or fails, is a row that says so."""
    rows: list[dict[str, Any]] = []
    with patch.dict(os.environ, {"ACCELERATE_USE_CPU": "true"} if setting.dry_run else {}):
        device = torch.device(choose(os.environ, Visible.here(), ALONE))
        for name in setting.names:
            plain = load_config(name, [*setting.more, "--train.precision", "no"])
            pixels, sizes = draw_pixels(plain.model.size), sizes_of(plain, len(CLASS_COUNTS))
            for precision in PRECISIONS:
                for batch in setting.batches:
                    words = ["--train.batch", str(batch), "--train.precision", precision]
                    config = load_config(name, [*setting.more, *words])
                    row = {"what": name, "precision": CALLED.get(precision, precision), "batch": batch}
                    row["estimate"] = sum(network_terms(config, sizes, ranks=1).values())
                    rows.append(_attempted(row, partial(_trained, name, config, pixels, effort)))
            row = {"what": f"{name}, generate", "images": setting.images}
            rows.append(_attempted(row, partial(_generated, name, plain, pixels, setting.images, effort)))
        row = {"what": f"extractor {plain.eval.extractor}", "images": setting.images}
        rows.append(_attempted(row, partial(_embedded, plain.eval.extractor, device, setting.images, effort)))
    return Result(_described(device), rows, setting.dry_run)


def _attempted(row: dict[str, Any], measured: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The row with what was measured, with the memory free before; or with why that failed."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        return row | measured()
    except torch.OutOfMemoryError:
        failed = "out of memory"
    except RuntimeError as error:
        failed = f"failed: {str(error).partition(chr(10))[0]}"
    return row | {"failed": failed}


def _trained(name: str, config: Config, pixels: Tensor, effort: Effort) -> dict[str, Any]:
    """Of the production step: images/s, the host's seconds, the peak of memory; and `_passes`."""
    training = Ours(config, pixels)
    what = f"gpu, {name}, precision {config.train.precision}, batch {config.train.batch}"
    side = Side(what, training.period * training.batch, partial(timed, training))
    rates = alternate(what, [side], effort)[what]
    launched = [_timed(training.train, training.gan.device)[0] for _ in range(training.period)]
    found: dict[str, Any] = {"rate": median(rates), "rates": rates, "host": fmean(launched)}
    if training.gan.device.type == "cuda":
        found["peak"] = torch.cuda.max_memory_allocated() - training.images.nbytes - training.labels.nbytes
        found["reserved"] = torch.cuda.max_memory_reserved()
    return found | _passes(training)


class _Dispatched(TorchDispatchMode):
    """Counts operators, as the doctor does on torch's meta device."""

    count = 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return operator(*args, **(kwargs or {}))


def _passes(training: Ours) -> dict[str, Any]:
    """Of the passes whose operators and arithmetic the doctor counts, with the penalty and without an update:
    the host's seconds for an operator, floating-point operations a second, and what they follow from.
    """
    made, config = training.step, training.gan.config
    rows = step.batch_rows(0, training.batch, training.images)
    images, labels = training.images[rows], training.labels[rows]

    def passes() -> None:
        for _ in range(config.train.n_critic):
            made.critic_gradients(0, images, labels, 1.0)
        made.generator_gradients(0, images, labels)

    measured = []
    for _ in range(REPEATS + 1):
        measured.append(_timed(passes, training.gan.device))
        training.gan.critic.zero_grad()
        training.gan.generator.zero_grad()
    host, device = (median(seconds) for seconds in zip(*measured[1:], strict=True))
    with _Dispatched() as dispatched:
        passes()
    work = work_of(config, len(CLASS_COUNTS))
    return {
        "launch": host / dispatched.count,
        "arithmetic": work.arithmetic * training.batch / device,
        "passes": {"host": host, "device": device, "operators": dispatched.count},
        "doctor": {"operators": work.operators, "arithmetic of an image": work.arithmetic},
    }


def _timed(work: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Seconds until the host has launched everything, and until the device has finished it."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    work()
    launched = time.perf_counter() - begun
    if device.type == "cuda":
        torch.cuda.synchronize()
    return launched, time.perf_counter() - begun


def _generated(name: str, config: Config, pixels: Tensor, images: int, effort: Effort) -> dict[str, Any]:
    """Images/s drawn as `chexdist generate` draws them, without the audit and the files."""
    gan, seed, latent = Ours(config, pixels).gan, config.train.seed, config.model.latent
    prepare(gan.ema, latent, config.train.group, CLASS_COUNTS, seed)
    draw = partial(sample, gan.ema, latent, CLASS_COUNTS, seed, range(images))
    return _rate(f"gpu, {name}, generate", images, draw, gan.device, effort)


def _embedded(name: str, device: torch.device, images: int, effort: Effort) -> dict[str, Any]:
    """Images/s of 64 px that an extractor turns into features."""
    extractor = load_extractor(name)
    shown = (2 * torch.rand(images, 1, 64, 64, generator=torch.Generator().manual_seed(0)) - 1).to(device)
    return _rate(f"gpu, {name}", images, partial(extractor.features, shown), device, effort)


def _rate(
    what: str, images: int, work: Callable[[], object], device: torch.device, effort: Effort
) -> dict[str, Any]:
    rates = alternate(what, [Side(what, images, lambda: _timed(work, device)[1])], effort)[what]
    return {"rate": median(rates), "rates": rates}


def _described(device: torch.device) -> dict[str, Any]:
    """The device and the software on which its speed depends."""
    found: dict[str, Any] = {"device": "cpu"}
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found = {"device": card.name, "GiB": round(card.total_memory / 2**30, 1)}
        found["compute capability"] = f"{card.major}.{card.minor}"
    found |= {"CUDA": torch.version.cuda, "cuDNN": torch.backends.cudnn.version()}
    found["NCCL"] = ".".join(map(str, torch.cuda.nccl.version())) if distributed.is_nccl_available() else None
    return found
