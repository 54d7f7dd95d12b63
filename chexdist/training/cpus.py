"""Decides whether a node's ranks got fewer CPUs from Slurm than they keep busy."""

import os
import platform

import torch

from chexdist.config.tree import Config
from chexdist.distributed.collectives import Collectives


def cpu_shortage(config: Config, device: torch.device, collectives: Collectives) -> str:
    """A line on the nodes whose ranks have more threads and loader processes than CPUs in this Slurm job;
    empty where there is none. All ranks must call it.

    Of Slurm's jobs alone, since these have as many CPUs as they asked for: one, where they asked for none.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    granted = int(os.environ.get("SLURM_CPUS_ON_NODE") or 0)
    nodes: dict[str, list[tuple[int, int]]] = {}
    for node, *rank in collectives.gather((platform.node(), granted, threads + config.data.workers)):
        nodes.setdefault(node, []).append((rank[0], rank[1]))
    short = [node for node, ranks in nodes.items() if 0 < ranks[0][0] < sum(needs for _, needs in ranks)]
    if not short:
        return ""
    ranks = nodes[short[0]]
    each = max(needs for _, needs in ranks)
    return (
        f"Slurm gave this job {ranks[0][0]} CPUs on {short[0]}"
        + (f" (and too few on {len(short) - 1} more)" if short[1:] else "")
        + f", where {len(ranks)} x {each} threads and loader processes now share them: give sbatch "
        f"--cpus-per-gpu {each}, without GPUs --cpus-per-task {each * len(ranks)}, or lower data.workers"
    )
