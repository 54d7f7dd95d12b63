"""A loss, a penalty, a clip, an augmentation, a GAN, a metric, an extractor and a label format, each one file
and one line.

They are added to a copy of the source tree, and used through the command line.
"""

import filecmp
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Addition:
    """A file in a package, and a line in its registry: after the line that holds `after`, in the package's
    `__init__`.
    """

    package: str
    module: str
    content: str
    after: str
    line: str


LOSS = '''"""Least squares loss (Mao 2017, "Least Squares Generative Adversarial Networks", eq. 2)."""

from torch import Tensor

GENERATOR_SEES_REAL = False


def critic(real: Tensor, fake: Tensor) -> Tensor:
    """Scores [N], [N] -> losses [N]."""
    return ((real - 1) ** 2 + fake**2) / 2


def generator(fake: Tensor, real: Tensor | None) -> Tensor:
    """Scores [N] -> losses [N]."""
    return (fake - 1) ** 2 / 2
'''

PENALTY = '''"""R2 (Mescheder 2018, eq. 10): half the squared gradient of the score at generated images."""

import torch
from torch import Tensor, nn


def penalty(critic: nn.Module, real: Tensor, fake: Tensor, label: Tensor, weights: Tensor) -> Tensor:
    """Penalties [N]."""
    image = fake.detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(image, label).sum(), image, create_graph=True)
    return slope.square().sum(dim=(1, 2, 3)) / 2
'''

CLIP = '''"""Clamps each element of a gradient."""

import torch
from torch import Tensor


def clip_gradients(gradients: list[Tensor], norm: Tensor, value: float) -> None:
    """Change `gradients` in place."""
    torch._foreach_clamp_max_(gradients, value)
    torch._foreach_clamp_min_(gradients, -value)
'''

AUGMENTATION = '''"""Brightness (Zhao 2020, sec. 4.1): the same amount added to every pixel of an image."""

from torch import Tensor

DRAWS = 1


def augment(images: Tensor, draws: Tensor) -> Tensor:
    """Images [N, 1, S, S], draws [N, 1] -> images of the same shape."""
    return images + (draws[:, :, None, None] - 0.5)
'''

GAN = '''"""A linear GAN: one matrix each."""

from torch import Tensor, nn

from chexdist.gan.models.conditioning import LabelledLatent, ProjectionHead
from chexdist.gan.models.spec import Spec

NORMS = ("none",)


class Generator(nn.Module):
    """Latent [N, latent], label [N] -> image [N, 1, size, size] in [-1, 1]."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.size = spec.size
        self.labelled = LabelledLatent(spec.latent, spec.classes)
        self.layers = nn.Sequential(nn.Linear(self.labelled.width, spec.size**2), nn.Tanh())

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        return self.layers(self.labelled(latent, label)).view(-1, 1, self.size, self.size)


class Critic(nn.Module):
    """Image [N, 1, size, size], label [N] -> score [N]."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.head = ProjectionHead(spec.size**2, spec.classes)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        return self.head(image.flatten(1), label)
'''

METRIC = '''"""The distance between the means of the features."""

from chexdist.metrics.estimate import Estimate

UNIT = "distance of mean features"


def measure(real, generated, real_patients=None, generated_patients=None):
    """Features [N, D], [M, D] -> an estimate without an interval."""
    value = float((real.mean(0) - generated.mean(0)).norm())
    return Estimate(value, value, value, len(real), len(generated))
'''

LABELS = '''"""A table of `image_name` and `diagnosis`."""

from shards.labels.labels import ImageLabel, LabelOptions, Labels
from shards.labels.table import Table

COLUMNS = ("image_name", "diagnosis")


def read(table: Table, options: LabelOptions) -> Labels:
    """One class for each name."""
    images = {name: ImageLabel(diagnosis) for name, diagnosis in table.rows(*COLUMNS)}
    return Labels(table.path, images, str, {}, classes=sorted({image.label for image in images.values()}))
'''

ADDITIONS = [
    Addition("chexdist/gan/losses", "least_squares", LOSS, '"hinge":', '"least-squares": "least_squares",'),
    Addition("chexdist/gan/penalties", "r2", PENALTY, '"r1":', '"r2": "r2",'),
    Addition("chexdist/gan/clips", "element", CLIP, '"norm":', '"element": "element",'),
    Addition(
        "chexdist/gan/augment", "brightness", AUGMENTATION, '"translate":', '"brightness": "brightness",'
    ),
    Addition("chexdist/gan/models", "linear", GAN, '"dcgan":', '"linear": "linear",'),
    Addition(
        *("chexdist/metrics", "mean_distance", METRIC, '"fid":'),
        '"mean_distance": MetricSpec("chexdist.metrics.mean_distance", "Distance", "features", "lower"),',
    ),
    Addition("shards/labels", "diagnosis", LABELS, '"plain":', '"diagnosis": "shards.labels.diagnosis",'),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source tree with every addition."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("chexdist", "shards"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("configs", "launch"):
        shutil.copytree(ROOT / name, tree / "chexdist" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for addition in ADDITIONS:
        folder = tree / addition.package
        (folder / f"{addition.module}.py").write_text(addition.content)
        registry = folder / "__init__.py"
        lines = registry.read_text().splitlines(keepends=True)
        (number,) = [number for number, line in enumerate(lines) if line.strip().startswith(addition.after)]
        indent = lines[number][: len(lines[number]) - len(lines[number].lstrip())]
        lines.insert(number + 1, f"{indent}{addition.line}\n")
        registry.write_text("".join(lines))
    return tree


def command(tree: Path, *words: object) -> str:
    """What a command of the copy prints; it must end well."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_nothing_else_was_touched(tree: Path) -> None:
    """The copy differs by one file and one line of one other file for each addition."""
    for package in ("chexdist", "shards"):
        new, changed = set(), set()
        for path in (tree / package).rglob("*.py"):
            original = ROOT / path.relative_to(tree)
            if "configs" in path.parts or "launch" in path.parts:
                continue
            if not original.exists():
                new.add(str(path.relative_to(tree)))
            elif not filecmp.cmp(path, original, shallow=False):
                changed.add(str(path.relative_to(tree)))
                added = len(path.read_text().splitlines()) - len(original.read_text().splitlines())
                assert added == 1
        ours = [addition for addition in ADDITIONS if addition.package.startswith(package)]
        assert new == {f"{addition.package}/{addition.module}.py" for addition in ours}
        assert changed == {f"{addition.package}/__init__.py" for addition in ours}


@pytest.fixture(scope="module")
def run(tree: Path, build_pictures: Path) -> Path:
    """A run that was trained with every addition, on shards labelled in the new format, and evaluated."""
    shards, run = tree / "shards-64", tree / "run"
    labels = ["--labels", build_pictures / "labels.csv", "--split", "train=0.5,val=0.5", "--size", 32]
    command(tree, "shards", "build", build_pictures, *labels, "--out", shards, "--workers", 1)
    settings = {
        "model.name": "linear",
        "model.upsampling": "transposed",
        "model.size": 32,
        "loss.name": "least-squares",
        "penalty.name": "r2",
        "penalty.every": 0,
        "clip.name": "element",
        "augment.name": "brightness",
        "train.batch": 16,
        "train.images": 64,
        "eval.samples": 64,
        "eval.extractor": "random-conv",
        "checkpoint.best": "mean_distance",
        "data.shards": shards,
        "data.workers": 0,
        "run.dir": run,
    }
    words = [word for name, value in settings.items() for word in (f"--{name}", value)]
    command(tree, "chexdist", "train", "--config", "dcgan", *words)
    command(tree, "chexdist", "evaluate", run, "--samples", 64, "--pairs", 16)
    return run


@pytest.fixture(scope="module")
def build_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty pictures, no two equal, and a label file in the new format."""
    root = tmp_path_factory.mktemp("pictures")
    rows = ["image_name,diagnosis"]
    for number in range(80):
        picture = Image.effect_noise((40, 40), 20 + number).resize((40, 40))
        picture.save(root / f"{number:02}.png")
        rows.append(f"{number:02}.png,{'well' if number % 2 else 'ill'}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


def test_the_label_format_names_the_classes(run: Path, tree: Path) -> None:
    assert json.loads((tree / "shards-64" / "manifest.json").read_text())["classes"] == ["ill", "well"]


def test_the_run_is_of_the_additions(run: Path) -> None:
    assert json.loads((run / "status.json").read_text())["state"] == "done"
    config = (run / "config.yaml").read_text()
    assert all(name in config for name in ("linear", "least-squares", "r2", "element", "brightness"))
    assert (run / "checkpoints" / "images-64" / "state.json").exists()


def test_the_metric_is_logged_evaluated_and_reported(run: Path, tree: Path) -> None:
    logged = [json.loads(line)["name"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert "mean_distance" in logged and "mean_distance/real" in logged
    (evaluation,) = (run / "evaluations").glob("*/evaluation.json")
    assert "mean_distance" in [metric["name"] for metric in json.loads(evaluation.read_text())["metrics"]]
    command(tree, "chexdist", "report", run, "--out", tree / "report.md")
    assert "Distance" in (tree / "report.md").read_text()


@pytest.mark.parametrize(
    "name", ["least-squares", "r2", "element", "brightness", "linear", "mean_distance", "Least squares loss"]
)
def test_help_documents_it(name: str, tree: Path) -> None:
    assert name in command(tree, "chexdist", "train", "--help")


def test_the_promise_tests_compare_them(tree: Path) -> None:
    """Every combination of the registries is compared, so the new ones are."""
    script = "from helpers.cases import every_combination; print([case.name for case in every_combination()])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": f"{tree}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    for name in ("linear none", "least-squares", "penalty=r2", "clip=element"):
        assert name in done.stdout
