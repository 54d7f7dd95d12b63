"""`python -m benchmarks gpu`: the dry run, the refusal without a GPU, and rows of what does not fit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu
from benchmarks.__main__ import main
from benchmarks.alternate import Effort
from chexdist.config.load import load_config
from chexdist.config.shipped import shipped
from chexdist.distributed.devices import Visible
from chexdist.doctor.launches import ARITHMETIC, LAUNCH
from chexdist.doctor.memory import network_terms
from chexdist.doctor.sizes import sizes_of

PRECISIONS = ("float32", "bf16")


def test_a_dry_run_is_all_of_it_and_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpu", "--dry-run", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    (file,) = tmp_path.iterdir()
    document = json.loads(file.read_text())
    assert document["dry_run"] is True and "DRY RUN" in document["unit"] and "DRY RUN" in shown
    assert "don't send it" in shown and "attach this file" not in shown
    assert gpu.SHIPPED.names == tuple(shipped()) and gpu.SHIPPED.batches == (16, 64, 256)
    steps = {(each["what"], each["precision"]) for each in document["measured"] if "batch" in each}
    assert steps == {(name, precision) for name in gpu.TINY.names for precision in PRECISIONS}
    others = [each["what"] for each in document["measured"] if "batch" not in each]
    assert others == [*(f"{name}, generate" for name in gpu.TINY.names), "extractor efficientnet-lite0"]
    for each in document["measured"]:
        assert "failed" not in each and each["rate"] > 0, each
        if "batch" in each:
            assert each["host"] > 0 and each["arithmetic"] > 0 and each["estimate"] > 0
            passes = each["passes"]
            assert each["launch"] == pytest.approx(passes["host"] / passes["operators"])
            assert passes["operators"] > 50 and passes["host"] <= passes["device"]
    assert {"device", "CUDA", "cuDNN", "NCCL"} <= set(document["settings"])
    assert document["assumed"] == {"launch": LAUNCH, "arithmetic": ARITHMETIC}
    rows = {row["name"]: row["cells"] for row in document["rows"]}
    assert rows["assumed by the doctor"][2:4] == ["8", "20"]
    assert all(len(cells) == len(document["columns"]) for cells in rows.values())
    assert {f"medians, {precision}" for precision in PRECISIONS} <= set(rows)


def test_without_a_gpu_it_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    why = "torch sees none: load a driver for CUDA on this node"
    monkeypatch.setattr(Visible, "here", classmethod(lambda cls: cls(0, why)))
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "SLURM_GPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    assert main(["gpu", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and why in error and "gpu --dry-run" in error
    assert not list(tmp_path.iterdir())


def test_a_gpu_that_variables_hide_is_said_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Visible, "here", classmethod(lambda cls: cls(1)))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert main(["gpu"]) == 2
    assert "unset CUDA_VISIBLE_DEVICES and ACCELERATE_USE_CPU" in capsys.readouterr().err


def test_a_dry_run_is_of_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", "--dry-run"]) == 2
    assert "--dry-run is of gpu" in capsys.readouterr().err


def test_what_does_not_fit_or_fails_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    made = gpu.Ours

    def limited(config: Any, pixels: torch.Tensor) -> Any:
        if config.train.batch > 16:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        if config.train.precision == "bf16":
            raise RuntimeError("no such units\nand more")
        return made(config, pixels)

    monkeypatch.setattr(gpu, "Ours", limited)
    setting = gpu.Setting(("vanilla",), (16, 512), gpu.TINY.more, 16, dry_run=True)
    document = gpu.measure(Effort(1, 0.0), setting).document({})
    rows = {row["name"]: row["cells"] for row in document["rows"]}
    for precision in PRECISIONS:
        assert rows[f"vanilla, {precision}, batch 512"][0] == "out of memory"
    small, large = (each["estimate"] for each in document["measured"][:2])
    config = load_config("vanilla", ["--train.batch", "512", *setting.more])
    assert small < large == sum(network_terms(config, sizes_of(config, 2), 1).values())
    assert rows["vanilla, bf16, batch 16"][0] == "failed: no such units"
    assert float(rows["vanilla, float32, batch 16"][0].replace(",", "")) > 0
    assert "medians, bf16" not in rows and "medians, float32" in rows


def test_launches_are_of_small_batches_and_arithmetic_of_large_ones() -> None:
    measured = [
        {"what": name, "precision": "float32", "batch": batch, "rate": 1.0, "host": 1e-3}
        | {"launch": launch * 1e-6, "arithmetic": rate * 1e12}
        for name in ("a", "b")
        for batch, launch, rate in ((16, 5.0, 1.0), (64, 7.0, 9.0))
    ]
    rows = gpu.Result({}, measured, dry_run=False).document({})["rows"]
    (medians,) = (row["cells"] for row in rows if row["name"] == "medians, float32")
    assert medians[2:4] == ["5.0", "9"]
