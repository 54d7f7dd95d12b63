"""Decides which device a rank computes on, by the job's variables and what torch sees, and which devices of
all ranks are refused: a GPU that was allotted and can't be used, CPUs among GPUs, two ranks on one GPU.
"""

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch.utils import deterministic

from chexdist.distributed.launcher import TRUE
from chexdist.distributed.world import World
from chexdist.errors import UserError

ALLOTTED = ("CUDA_VISIBLE_DEVICES", "SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "SLURM_GPUS_ON_NODE")
"""By which a job says that it has GPUs; the last is a number, the others name them."""
HIDDEN = ("", "-1", "NoDevFiles")
"""Values of CUDA_VISIBLE_DEVICES that hide every GPU; the last is Slurm's."""
ON_PURPOSE = 'to compute on the CPU on purpose, set ACCELERATE_USE_CPU=true or CUDA_VISIBLE_DEVICES=""'
SHOWN = 4


@dataclass(frozen=True)
class Visible:
    """How many GPUs torch can use here; where it can't, `why`, with the cure."""

    count: int
    why: str = ""

    @classmethod
    def here(cls) -> "Visible":
        if torch.cuda.is_available():
            return cls(torch.cuda.device_count())
        if torch.version.cuda is None:
            return cls(
                0, f"torch {torch.__version__} is built without CUDA: install a torch that is built with it"
            )
        said = "sees none"
        try:
            torch.cuda.init()
        except (RuntimeError, AssertionError) as error:
            said = f"says: {str(error).partition('. ')[0]}"
        return cls(
            0,
            f"torch {torch.__version__} {said}: load a driver for CUDA {torch.version.cuda} on this node, "
            "or install a torch for the driver that it has",
        )


@dataclass(frozen=True)
class Device:
    """What one rank computes on; `uuid` names a GPU, `why` is why the rank has none."""

    rank: int
    node: str
    device: str
    name: str = ""
    uuid: str = ""
    why: str = ""
    refused: str = ""

    @classmethod
    def here(cls, world: World, environment: Mapping[str, str]) -> "Device":
        visible, node = Visible.here(), platform.node()
        try:
            device = choose(environment, visible, world)
        except UserError as error:
            return cls(world.rank, node, "cpu", refused=str(error))
        if device == "cpu":
            return cls(world.rank, node, device, why=visible.why or "as its variables ask")
        card = torch.cuda.get_device_properties(device)
        return cls(world.rank, node, device, card.name, str(card.uuid))

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    @property
    def place(self) -> str:
        """Rank and node."""
        return f"rank {self.rank} on {self.node}"


def choose(environment: Mapping[str, str], visible: Visible, world: World) -> str:
    """`cpu` or `cuda:N`, as Accelerate will choose: of the GPUs that this process sees, that of `World.gpu`.

    Raises:
        UserError: the job has GPUs, but torch can't use any, or not the one that is asked for.
    """
    asked = environment.get("ACCELERATE_TORCH_DEVICE", "").strip().lower()
    on_cpu = environment.get("ACCELERATE_USE_CPU", "").strip().lower() in TRUE or asked.startswith("cpu")
    if on_cpu or environment.get("CUDA_VISIBLE_DEVICES", "0") in HIDDEN:
        return "cpu"
    if visible.count and asked.startswith("cuda:"):
        if asked not in [f"cuda:{number}" for number in range(visible.count)]:
            raise UserError(
                f"ACCELERATE_TORCH_DEVICE={asked}, but GPUs that are seen: {visible.count}: unset it"
            )
        return asked
    if visible.count:
        return f"cuda:{world.gpu(visible.count)}"
    values = {name: environment.get(name, "") for name in ALLOTTED}
    allotted = [f"{name}={value}" for name, value in values.items() if value]
    if allotted and allotted != ["SLURM_GPUS_ON_NODE=0"]:
        raise UserError(f"this job has GPUs ({', '.join(allotted)}), but {visible.why}; {ON_PURPOSE}")
    return "cpu"


def use(device: str, world: World) -> None:
    """Make it torch's current one, and DDP's: Accelerate would give DDP `World.ddp_device`, also where each
    process sees one GPU alone.
    """
    if device != "cpu":
        _compute_exactly()
        torch.cuda.set_device(device)
        if torch.device(device).index != world.ddp_device:
            os.environ["ACCELERATE_BYPASS_DEVICE_MAP"] = "true"


def _compute_exactly() -> None:
    """float32 is float32, where a GPU's default for convolutions is TF32, of 10 bits; and the same input
    gives the same bits again, as a restart promises. What has no such algorithm warns.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # of cuBLAS, read before its first use
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.use_deterministic_algorithms(True, warn_only=True)
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs time; none is read


def refusal(devices: list[Device]) -> str:
    """Why the ranks can't train on these devices, in one line; empty where they can."""
    if refused := [each for each in devices if each.refused]:
        who = f"{refused[0].place}: " if len(devices) > 1 else ""
        more = f" (and so do {len(refused) - 1} more ranks)" if len(refused) > 1 else ""
        return f"{who}{refused[0].refused}{more}"
    on_cpu = [each for each in devices if each.device == "cpu"]
    on_gpu = [each for each in devices if each.device != "cpu"]
    if on_cpu and on_gpu:
        return (
            f"{on_cpu[0].place} would compute on its CPU, {on_gpu[0].place} on a GPU ({len(on_cpu)} of "
            f"{len(devices)} ranks have none). On {on_cpu[0].node}: {on_cpu[0].why}. All ranks need a GPU, "
            "or all ACCELERATE_USE_CPU=true"
        )
    holders: dict[tuple[str, str], Device] = {}
    for each in on_gpu:
        first = holders.setdefault((each.node, each.uuid or each.device), each)
        if first is not each:
            return (
                f"{first.place} and rank {each.rank} are both on one GPU ({first.name}, {first.uuid}; "
                f"{first.device} and {each.device} to them): start no more ranks on a node than it has GPUs "
                "(--num_processes, --nproc-per-node), or let each see a GPU of its own (CUDA_VISIBLE_DEVICES)"
            )
    return ""


def described(devices: list[Device]) -> str:
    """All ranks' devices in a few words: nodes whose ranks have the same share an entry."""
    nodes: dict[str, list[Device]] = {}
    for each in devices:
        nodes.setdefault(each.node, []).append(each)
    same: dict[str, list[str]] = {}
    for node, its in nodes.items():
        same.setdefault(_of_a_node(its), []).append(node)
    if len(nodes) == 1:
        return next(iter(same))
    return "; ".join(f"{_listed(names)}: {what}" for what, names in same.items())


def _of_a_node(devices: list[Device]) -> str:
    found = [each.device for each in devices]
    names = " ".join(dict.fromkeys(each.name for each in devices if each.name))
    numbers = [int(device.removeprefix("cuda:")) for device in found if device != "cpu"]
    if len(numbers) > 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        text = f"cuda:{numbers[0]}-{numbers[-1]}"
    elif len(set(found)) == 1:
        text = found[0] if len(found) == 1 or not numbers else f"{len(found)} x {found[0]}, each its own"
    else:
        text = ", ".join(found)
    return f"{text} {names}".rstrip()


def _listed(nodes: list[str]) -> str:
    return ", ".join(nodes) if len(nodes) <= SHOWN else f"{len(nodes)} nodes, {nodes[0]} to {nodes[-1]}"
