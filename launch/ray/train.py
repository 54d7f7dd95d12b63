"""Trains on a Ray cluster by Ray Train, one rank for each worker.

    python launch/ray/train.py 16 --config dcgan --data.shards DIR --run.dir RUN

16 workers, each with a GPU where the cluster has any, and the arguments of `chexdist train`, with paths on a
disk that all nodes see. Ray forms the process group; a worker that is lost ends all, and Ray starts them
again, up to ten times: they resume from the newest checkpoint. `pip install 'ray[train]'`.
"""

import sys

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer


def rank(config: dict[str, list[str]]) -> None:
    """One worker. An early stop is a failure to Ray, which then starts the workers again."""
    import chexdist

    if code := chexdist.train(config["arguments"]):
        raise SystemExit(code)


def main() -> None:
    """Start the workers and wait for their end."""
    if len(sys.argv) < 3 or not sys.argv[1].isdigit():
        raise SystemExit(f"usage: {sys.argv[0]} WORKERS --config NAME --data.shards DIR --run.dir RUN ...")
    ray.init()
    gpus = ray.cluster_resources().get("GPU", 0)
    TorchTrainer(
        rank,
        train_loop_config={"arguments": sys.argv[2:]},
        scaling_config=ScalingConfig(num_workers=int(sys.argv[1]), use_gpu=gpus > 0),
        run_config=RunConfig(name="chexdist", failure_config=FailureConfig(max_failures=10)),
    ).fit()


if __name__ == "__main__":
    main()
