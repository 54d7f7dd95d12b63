"""Decides what a launcher's variables may ask of training: nothing that changes a run's numbers.

`accelerate config` and the options of `accelerate launch` reach the ranks as variables. What a run computes
follows from its configuration alone, so a variable that asks for something else is refused, and
`process_group` gives Accelerate its own value in place of each.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chexdist.config.tree import Config
from chexdist.distributed.world import accelerate_file, launcher_arguments
from chexdist.errors import UserError

RULE = "the numbers of a run follow from its own settings alone"
ENGINES = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
    "ACCELERATE_USE_SAGEMAKER": "SageMaker",
}
TYPES = ("NO", "MULTI_CPU", "MULTI_GPU", "")
"""Values of `distributed_type` in Accelerate's file that are trained; those of `ENGINES` set a variable."""
DEVICES = ("cpu", "cuda")
TRUE = ("1", "true", "yes", "y", "on", "t")


def check_launcher(config: Config | None) -> None:
    """Refuse what this process's launcher asks for and training does not do; see `refusal`.

    Raises:
        UserError: names the variable or the file, the rule and the cure.
    """
    file = accelerate_file(os.environ, launcher_arguments())
    refused = refusal(os.environ, config) or (file and refusal_of_type(file))
    if refused:
        raise UserError(refused)


def refusal(environment: Mapping[str, str], config: Config | None) -> str:
    """Why these variables are refused; empty where none changes anything. What the configuration says too is
    taken.
    """

    def value(name: str) -> str:
        return environment.get(name, "").strip().lower()

    for name, engine in ENGINES.items():
        if value(name) in TRUE:
            return (
                f"{name}={environment[name]} asks for {engine}, but ranks train by DDP alone: choose "
                "multi-GPU in `accelerate config`, or unset it"
            )
    precision = value("ACCELERATE_MIXED_PRECISION")
    if precision not in ("", "no", config.train.precision if config else "no"):
        cure = "give --train.precision bf16 too, or " if precision == "bf16" else ""
        return (
            f"ACCELERATE_MIXED_PRECISION={precision}, but {RULE} (train.precision is auto, no or bf16): "
            f"{cure}set --mixed_precision no (or `accelerate config`), or unset it"
        )
    backend = value("ACCELERATE_DYNAMO_BACKEND")
    if backend not in ("", "no"):
        return (
            f"ACCELERATE_DYNAMO_BACKEND={backend} would compile the networks, through which no gradient "
            f"penalty can be trained, and {RULE}: answer no to Dynamo in `accelerate config`, or unset it"
        )
    parts = value("ACCELERATE_GRADIENT_ACCUMULATION_STEPS")
    if parts not in ("", "1", "auto", str(config.train.accumulate) if config else "1"):
        return (
            f"ACCELERATE_GRADIENT_ACCUMULATION_STEPS={parts}, but {RULE}: give --train.accumulate {parts} in "
            "its place (train.batch stays the global batch), and unset it"
        )
    device = value("ACCELERATE_TORCH_DEVICE").partition(":")[0]
    if device not in ("", *DEVICES):
        return f"ACCELERATE_TORCH_DEVICE={device}: training runs on {' or '.join(DEVICES)}: unset it"
    return ""


def refusal_of_type(file: Path) -> str:
    """Why the kind of machine that Accelerate's file asks for is refused; empty where it is not."""
    asked = str(_read(file).get("distributed_type") or "").upper()
    if asked in TYPES:
        return ""
    return (
        f"{file} says distributed_type {asked}, but training runs on NVIDIA GPUs or CPUs, by DDP alone: "
        "choose one of these in `accelerate config`, or give accelerate launch --config_file one of launch/"
    )


def _read(file: Path) -> dict[str, Any]:
    import yaml  # here, for the start of `chexdist --help`

    try:
        found = yaml.safe_load(file.read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return {}  # Accelerate's launcher has read it, or has refused it before
    return found if isinstance(found, dict) else {}
