"""The files for containers and Kubernetes are valid; their commands parse, for the world that they make."""

import re
from importlib import resources
from typing import Any

import kubernetes_validate
import pytest
import yaml
from torch.distributed.run import get_args_parser

from chexdist.commands.parser import parser
from chexdist.config.load import load_config

FOLDER = resources.files("chexdist.launch")
VERSIONS = ("1.29", "1.37")
"""Of Kubernetes: the oldest and the newest that the files were held against."""


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / "kubernetes" / name).read_text()))


def trains(words: list[str], nodes: int) -> None:
    """The words are torchrun's and then `chexdist train`'s, for a batch that has a group for each rank."""
    launch, ours = words[: words.index("chexdist") + 1], words[words.index("chexdist") + 1 :]
    assert launch[0] == "torchrun"
    given = get_args_parser().parse_args(launch[1:])
    assert given.module and given.training_script == "chexdist"
    options, settings = parser().parse_known_args(ours)
    config = load_config(options.config, settings)
    assert options.command == "train" and config.run.dir.startswith("/data/")
    assert config.train.batch // config.train.group >= 8 * nodes


@pytest.mark.parametrize("version", VERSIONS)
def test_the_job_is_one_of_kubernetes(version: str) -> None:
    found = documents("job.yaml")
    assert [document["kind"] for document in found] == ["Service", "Job"]
    for document in found:
        kubernetes_validate.validate(document, version, strict=True)
    found[1]["spec"]["completion"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(found[1], version, strict=True)


def test_the_job_s_pods_find_each_other_and_train() -> None:
    service, job = documents("job.yaml")
    spec, name = job["spec"], job["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": name} and service["spec"]["clusterIP"] == "None"
    assert spec["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"]
    (container,) = spec["template"]["spec"]["containers"]
    (line,) = container["args"]
    words = line.replace('"$JOB_COMPLETION_INDEX"', "1").removeprefix("exec ").split()
    given = get_args_parser().parse_args(words[1:])
    assert (given.nnodes, given.nproc_per_node) == (str(spec["completions"]), "8")
    assert given.master_addr == f"{name}-0.{service['metadata']['name']}"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == int(given.nproc_per_node)
    trains(words, spec["completions"])


@pytest.mark.parametrize("version", VERSIONS)
def test_the_pods_of_a_pytorchjob(version: str) -> None:
    """Kubeflow's own part of it has no schema here: its pods are checked, and the names that it must have."""
    (job,) = documents("pytorchjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    replicas = job["spec"]["pytorchReplicaSpecs"]
    assert replicas.keys() == {"Master", "Worker"} and replicas["Master"]["replicas"] == 1
    for each in replicas.values():
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "template": each["template"]}
        kubernetes_validate.validate(pod, version, strict=True)
        (container,) = each["template"]["spec"]["containers"]
        assert container["name"] == "pytorch"
        assert container["resources"]["limits"]["nvidia.com/gpu"] == int(job["spec"]["nprocPerNode"])
        trains([*container["command"], *container["args"]], 1 + replicas["Worker"]["replicas"])


def test_the_image_has_the_command_and_extras_that_exist() -> None:
    text = (FOLDER / "container" / "Containerfile").read_text()
    steps = re.findall(r"^([A-Z]+) (.*)$", text, re.MULTILINE)
    assert [step for step, _ in steps] == ["FROM", "COPY", "RUN", "ENV", "WORKDIR", "ENTRYPOINT"]
    assert steps[-1][1] == '["chexdist"]'
    (extras,) = re.findall(r"/opt/chexdist\[([\w,]+)\]", steps[2][1])
    from importlib.metadata import metadata

    assert {*extras.split(",")} <= {*metadata("chexdist").get_all("Provides-Extra", [])}
