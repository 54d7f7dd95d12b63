"""What `accelerate config` and its variables ask for is taken, or refused by one line: never mixed in."""

import inspect
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands import launch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from accelerate.utils import launch as launch_environments
from accelerate.utils.launch import (
    prepare_deepspeed_cmd_env,
    prepare_multi_gpu_env,
    prepare_simple_launcher_cmd_env,
)
from helpers import jobs

from chexdist.__main__ import RANK_0_FIRST
from chexdist.config.load import build_config
from chexdist.config.tree import Config
from chexdist.distributed.launcher import ENGINES, refusal, refusal_of_type
from chexdist.distributed.process_group import make_accelerator
from chexdist.distributed.world import World

ANSWERS: dict[str, dict[str, Any]] = {
    "bf16": {"mixed_precision": "bf16"},
    "fp16": {"mixed_precision": "fp16"},
    "fp8": {"mixed_precision": "fp8", "fp8_config": {"backend": "TE"}},
    "dynamo": {"dynamo_config": {"dynamo_backend": "INDUCTOR", "dynamo_mode": "default"}},
    "fsdp": {"distributed_type": "FSDP", "fsdp_config": {"fsdp_version": 1}, "num_processes": 2},
    "fsdp2": {"distributed_type": "FSDP", "fsdp_config": {"fsdp_version": 2}, "num_processes": 2},
    "deepspeed": {
        "distributed_type": "DEEPSPEED",
        "deepspeed_config": {"zero_stage": 2, "gradient_accumulation_steps": 4},
        "num_processes": 2,
    },
    "megatron": {
        "distributed_type": "MEGATRON_LM",
        "megatron_lm_config": {"megatron_lm_tp_degree": 2},
        "num_processes": 2,
    },
    "xpu": {"distributed_type": "MULTI_XPU", "num_processes": 2},
    "tpu": {"distributed_type": "XLA"},
}
NAMED = {
    "bf16": "ACCELERATE_MIXED_PRECISION=bf16",
    "fp16": "ACCELERATE_MIXED_PRECISION=fp16",
    "fp8": "ACCELERATE_MIXED_PRECISION=fp8",
    "dynamo": "ACCELERATE_DYNAMO_BACKEND=inductor",
    "fsdp": "ACCELERATE_USE_FSDP=true",
    "fsdp2": "ACCELERATE_USE_FSDP=true",
    "deepspeed": "ACCELERATE_USE_DEEPSPEED=true",
    "megatron": "ACCELERATE_USE_MEGATRON_LM=true",
    "xpu": "distributed_type MULTI_XPU",
    "tpu": "distributed_type XLA",
}
PLAIN = {
    "compute_environment": "LOCAL_MACHINE",
    "distributed_type": "NO",
    "mixed_precision": "no",
    "use_cpu": False,
    "num_processes": 1,
    "num_machines": 1,
    "machine_rank": 0,
}


def config(**train: Any) -> Config:
    return build_config({"model": {"name": "dcgan"}, "loss": {"name": "non-saturating"}, "train": train})


def answered(file: Path) -> dict[str, str]:
    """The variables that Accelerate's own launcher sets from its file."""
    arguments = launch.launch_command_parser().parse_args(["--config_file", str(file), "train.py"])
    arguments, _, _ = launch._validate_launch_command(arguments)
    if arguments.use_deepspeed:
        arguments.deepspeed_fields_from_accelerate_config = "zero_stage"  # as launch_command sets it
        return dict(prepare_deepspeed_cmd_env(arguments)[1])
    if arguments.use_fsdp or arguments.use_megatron_lm or arguments.multi_gpu:
        return dict(prepare_multi_gpu_env(arguments))
    return dict(prepare_simple_launcher_cmd_env(arguments)[1])


@pytest.mark.parametrize("answer", ANSWERS)
def test_each_answer_of_accelerate_config(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the variables that Accelerate's own launcher sets, or by its file where it sets none."""
    file = tmp_path / "answers.yaml"
    file.write_text(yaml.safe_dump({**PLAIN, **ANSWERS[answer]}))
    monkeypatch.setattr(launch_environments, "is_fp8_available", lambda: True)
    if answer in ("xpu", "tpu"):
        refused = refusal_of_type(file)
    else:
        refused = refusal(answered(file), config())
    assert NAMED[answer] in refused and "\n" not in refused and ": " in refused


@pytest.mark.parametrize("kind", [kind.value for kind in DistributedType])
def test_each_kind_of_machine_that_accelerate_knows(kind: str, tmp_path: Path) -> None:
    """Trained, or refused by the file, also where a variable would refuse it first."""
    file = tmp_path / "answers.yaml"
    file.write_text(yaml.safe_dump({**PLAIN, "distributed_type": kind}))
    refused = refusal_of_type(file)
    assert "\n" not in refused
    assert (refused == "") == (kind in ("NO", "MULTI_CPU", "MULTI_GPU"))


def test_each_engine_that_accelerate_s_launcher_can_ask_for() -> None:
    """By the variables in its sources: a new one in another release fails here."""
    named = set(re.findall(r"ACCELERATE_USE_[A-Z_]+", inspect.getsource(launch_environments)))
    assert named and named <= {*ENGINES, "ACCELERATE_USE_CPU"}
    for name in named - {"ACCELERATE_USE_CPU"}:
        refused = refusal({name: "true"}, config())
        assert refused.startswith(f"{name}=true") and "unset it" in refused and "\n" not in refused


@pytest.mark.parametrize("kind", ["NO", "MULTI_GPU"])
def test_plain_answers_are_taken(kind: str, tmp_path: Path) -> None:
    """NO is also what Accelerate writes on a Mac: without CUDA, `make_accelerator` takes the CPU."""
    file = tmp_path / "answers.yaml"
    file.write_text(yaml.safe_dump({**PLAIN, "distributed_type": kind, "num_processes": 1 + (kind != "NO")}))
    assert refusal(answered(file), config()) == refusal_of_type(file) == ""


@pytest.mark.parametrize(
    "variable, value, train",
    [
        ("ACCELERATE_MIXED_PRECISION", "bf16", {"precision": "bf16"}),
        ("ACCELERATE_MIXED_PRECISION", "no", {"precision": "bf16"}),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "2", {"accumulate": 2}),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1", {"accumulate": 2}),
        ("ACCELERATE_USE_FSDP", "false", {}),
        ("ACCELERATE_TORCH_DEVICE", "cuda:1", {}),
    ],
)
def test_what_the_configuration_says_too_is_taken(variable: str, value: str, train: dict[str, Any]) -> None:
    assert refusal({variable: value}, config(**train)) == ""


@pytest.mark.parametrize(
    "variable, value, train, cure",
    [
        ("ACCELERATE_MIXED_PRECISION", "bf16", {"precision": "auto"}, "--train.precision bf16"),
        ("ACCELERATE_MIXED_PRECISION", "fp16", {"precision": "bf16"}, "--mixed_precision no"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", {"accumulate": 2}, "--train.accumulate 4"),
        ("ACCELERATE_TORCH_DEVICE", "xpu", {}, "unset it"),
    ],
)
def test_what_it_does_not_say_is_refused(variable: str, value: str, train: dict[str, Any], cure: str) -> None:
    refused = refusal({variable: value}, config(**train))
    assert refused.startswith(f"{variable}={value}") and cure in refused


def test_accelerate_is_given_our_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is taken is not done twice, wherever else a process group is made."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "inductor")
    AcceleratorState._reset_state(True)
    accelerator = make_accelerator(World(0, 1, 0, 0), 60)
    assert accelerator.mixed_precision == "no" and accelerator.state.dynamo_plugin.backend == "NO"


def test_one_line_of_the_command(shards: Path, tmp_path: Path) -> None:
    """Exit code 2 before anything is made, and only rank 0 prints."""
    run = tmp_path / "run"
    words = jobs.small(shards, run, "vanilla")
    said = []
    for rank in range(2):
        job = jobs.true_command(
            words, ACCELERATE_MIXED_PRECISION="bf16", RANK=f"{rank}", WORLD_SIZE="2", LOCAL_RANK=f"{rank}"
        )
        out, err = job.communicate(timeout=60)
        assert job.returncode == 2 and out == ""
        said.append(err)
    assert said[0].startswith("chexdist: ACCELERATE_MIXED_PRECISION=bf16") and said[0].count("\n") == 1
    assert said[1] == "" and not run.exists()


def test_rank_0_exits_first_under_torchrun(shards: Path, tmp_path: Path) -> None:
    """torchrun kills all ranks when the first one exits, so the silent one must not be that; where nobody
    kills it, rank 0 has not made its mistake, and it says so itself.
    """
    words = jobs.small(shards, tmp_path / "run", "vanilla")
    torchrun = {"WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none", "ACCELERATE_MIXED_PRECISION": "bf16"}
    silent = jobs.true_command(words, RANK="1", LOCAL_RANK="1", **torchrun)
    started = time.monotonic()
    first = jobs.true_command(words, RANK="0", LOCAL_RANK="0", **torchrun)
    assert first.communicate(timeout=60)[1].startswith("chexdist: ACCELERATE_MIXED_PRECISION=bf16")
    assert silent.poll() is None
    assert silent.communicate(timeout=60)[1].startswith("chexdist, rank 1 on ") and silent.returncode == 2
    assert time.monotonic() - started > RANK_0_FIRST


def test_accelerate_launch_itself(shards: Path, tmp_path: Path) -> None:
    """A kind of machine that no variable names is read from the launcher's file; two ranks, one line."""
    file = tmp_path / "answers.yaml"
    file.write_text(yaml.safe_dump({**PLAIN, **ANSWERS["xpu"]}))
    accelerate = [Path(sys.executable).with_name("accelerate"), "launch", "--config_file", file, "-m"]
    done = subprocess.run(
        [*accelerate, "chexdist", *jobs.small(shards, tmp_path / "run", "vanilla")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("chexdist:")]
    assert done.returncode and len(lines) == 1 and "distributed_type MULTI_XPU" in lines[0], done.stderr
