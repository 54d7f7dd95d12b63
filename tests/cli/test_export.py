"""`chexdist export`: one file with all that is known of it, from which other programs draw the same."""

import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers.untrained import files, make_run
from safetensors import safe_open
from safetensors.torch import save_file

import chexdist
from chexdist.__main__ import main
from chexdist.data.manifest import read_manifest
from chexdist.metrics.value import Metric
from chexdist.training.networks import Gan

ROOT = Path(__file__).parents[2]
NETWORKS = [
    pytest.param([("dcgan", True), ("residual", False)], id="two"),
    pytest.param(
        [
            (name, by_class)
            for name in ("vanilla", "dcgan", "wgan-gp", "residual")
            for by_class in (True, False)
        ],
        id="all",
        marks=pytest.mark.slow,
    ),
]
"""Configuration, and whether by class: a compilation each."""
ENDINGS = {"safetensors": ".safetensors", "onnx": ".onnx", "torch-export": ".pt2"}
BATCHES = (1, 3, 130)

OTHER_PROGRAM = """
import sys
import numpy as np
folder, kind = sys.argv[1:]
for name in open(f"{folder}/names").read().split():
    known = np.load(f"{folder}/{name}.npz")
    if kind == ".onnx":
        import onnxruntime
        session = onnxruntime.InferenceSession(f"{folder}/{name}.onnx", providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()]
        draw = lambda *values: session.run(["images"], dict(zip(names, values, strict=True)))[0]
    else:
        import torch
        program = torch.export.load(f"{folder}/{name}.pt2").module()
        draw = lambda *values: program(*map(torch.from_numpy, values)).detach().numpy()
    for n in (1, 3, 130):
        values = [known[f"{each}{n}"] for each in ("latents", "labels") if f"{each}{n}" in known]
        images, expected = draw(*values), known[f"images{n}"]
        assert images.shape == expected.shape and images.dtype == np.float32, images.shape
        print(name, n, np.abs(images - expected).max())
assert not [name for name in sys.modules if name.partition(".")[0] in ("chexdist", "shards")]
"""


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conditional DCGAN whose last checkpoint was measured."""
    folder = make_run(tmp_path_factory.mktemp("run"), shards, "dcgan", True, lambda gan: None)
    lines = [Metric(images, 1, "kid_x1000", "", value, 64, 1.0, 99.0, 2.0, "25cef2355c6d", 1.0)
             for images, value in ((64, 71.5), (128, 42.25))]  # fmt: skip
    lines.append(Metric(128, 1, "loss_critic", "", 0.77, 64, None, None, None, None, 1.0))
    text = "".join(json.dumps(line.to_dict()) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    return folder


def export(source: Path, out: Path, *more: str) -> Path:
    (kind,) = (name for name, ending in ENDINGS.items() if ending == out.suffix)
    assert main(["export", str(source), "--format", kind, "--out", str(out), *more]) == 0
    return out


@pytest.fixture(scope="module", params=NETWORKS)
def exported(request: pytest.FixtureRequest, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks in both programs' formats, with what they draw."""
    folder = tmp_path_factory.mktemp("exported")
    names = []
    for name, by_class in request.param:
        torch.manual_seed(1)
        source = make_run(tmp_path_factory.mktemp("run"), shards, name, by_class, disturb)
        generator = chexdist.load_generator(source)
        known = {}
        for n in BATCHES:
            latents, labels = torch.randn(n, 8), torch.randint(0, 2, (n,))
            known |= {f"latents{n}": latents.numpy(), f"images{n}": generator(latents, labels).numpy()}
            if by_class:
                known[f"labels{n}"] = labels.numpy()
        names.append(f"{name}-{by_class}")
        np.savez(folder / f"{names[-1]}.npz", **known)
        for ending in (".onnx", ".pt2"):
            export(source, folder / f"{names[-1]}{ending}")
    (folder / "names").write_text(" ".join(names))
    return folder


def disturb(gan: Gan) -> None:
    """No weight at its start, where residual blocks and biases are 0 and a wrong one would not be seen; nor
    larger, since deep networks with large weights amplify the last bit of float32.
    """
    for weight in gan.ema.parameters():
        weight.div_(1.5)  # by which `make_run` multiplies
        weight.add_(torch.randn_like(weight) * max(0.02, 0.3 * float(weight.std(correction=0))))


@pytest.mark.parametrize("kind", [".onnx", ".pt2"])
def test_a_program_without_chexdist_draws_the_same(exported: Path, kind: str, tmp_path: Path) -> None:
    words = [sys.executable, "-I", "-c", OTHER_PROGRAM, str(exported), kind]
    done = subprocess.run(words, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    differences = {(name, int(n)): float(most) for name, n, most in map(str.split, done.stdout.splitlines())}
    names = (exported / "names").read_text().split()
    assert len(differences) == len(names) * len(BATCHES)
    assert max(differences.values()) <= 1e-4, differences
    for name in names:
        images = np.load(exported / f"{name}.npz")["images130"]
        assert images.std() > 0.02 and np.abs(images).mean() < 0.9, "flat or saturated: nothing can differ"


def metadata(path: Path) -> dict[str, str]:
    if path.suffix == ".safetensors":
        with safe_open(path, "np") as file:
            return file.metadata()
    if path.suffix == ".onnx":
        model = onnx.load(path)
        onnx.checker.check_model(model)
        return {each.key: each.value for each in model.metadata_props}
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("extra/metadata.json"))
        return json.loads(archive.read(name))


@pytest.mark.parametrize("ending", ENDINGS.values())
def test_a_file_says_what_it_is(ending: str, run: Path, shards: Path, tmp_path: Path) -> None:
    said = metadata(export(run, tmp_path / f"one{ending}", "--licence", "CC BY-NC 4.0"))
    manifest = read_manifest(str(shards)).digest
    assert (said["model"], said["latent"], said["size"]) == ("dcgan", "8", "32")
    assert (said["checkpoint"], said["manifest"]) == ("images-128", manifest)
    assert json.loads(said["classes"]) == {"no_finding": 48, "finding": 24}
    assert said["licence"] == "CC BY-NC 4.0" and "not a patient" in said["about"]
    card = said["model_card"]
    for part in (
        "72 chest X-rays (no_finding 48, finding 24)",
        "Not for diagnosis",
        "CC BY-NC 4.0",
        manifest,
    ):
        assert part in card
    assert "| kid_x1000 | 42.25 [1, 99] | 2 | 64 | 25cef2355c6d |" in card
    assert "71.5" not in card and "0.77" not in card
    earlier = metadata(export(run, tmp_path / f"two{ending}", "--checkpoint", "images-64"))
    assert earlier["checkpoint"] == "images-64" and "71.5" in earlier["model_card"]
    assert earlier["licence"] == "not stated" and "licence: not stated" in earlier["model_card"]
    assert earlier["weights"] != said["weights"]


def everything(path: Path) -> bytes:
    if path.suffix != ".pt2":
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return b"".join(archive.read(name) for name in archive.namelist())


@pytest.mark.parametrize("ending", ENDINGS.values())
def test_no_file_names_a_path_of_this_machine(ending: str, run: Path, shards: Path, tmp_path: Path) -> None:
    content = everything(export(run, tmp_path / f"one{ending}"))
    for path in (ROOT, run, shards, sys.prefix, "site-packages", '.py"'):
        assert str(path).encode() not in content, path


def pictures(source: Path, out: Path, *more: str) -> dict[str, bytes]:
    assert main(["generate", str(source), "--n", "5", "--out", str(out), *more]) == 0
    return files(out)


def test_a_run_its_checkpoint_and_its_file_give_the_same_pictures(
    run: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the byte, the audit and what is said of them too."""
    alone = shutil.copytree(run / "checkpoints/images-128", tmp_path / "elsewhere")
    file = export(run, tmp_path / "one.safetensors")
    assert (
        export(alone, tmp_path / "two.safetensors").read_bytes() != file.read_bytes()
    )  # it knows no metrics
    again = export(run, tmp_path / "again.safetensors")
    assert again.read_bytes() == file.read_bytes()
    whole = pictures(run, tmp_path / "a")
    assert pictures(run / "checkpoints/images-128", tmp_path / "b") == whole
    for number, source in enumerate((alone, file, export(file, tmp_path / "three.safetensors"))):
        assert pictures(source, tmp_path / str(number), "--shards", str(shards)) == whole
    capsys.readouterr()
    for source in (alone, file):
        assert main(["generate", str(source), "--out", str(tmp_path / "none")]) == 2
        err = capsys.readouterr().err
        assert "--shards DIR" in err and "--no-audit" in err and len(err.splitlines()) == 1
    assert len(pictures(file, tmp_path / "c", "--no-audit")) == 8


def test_load_generator_takes_all_three(run: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(run / "checkpoints/images-128", tmp_path / "elsewhere")
    file = export(run, tmp_path / "one.safetensors")
    latents, labels = torch.randn(4, 8), torch.tensor([0, 1, 1, 0])
    drawn = [chexdist.load_generator(source)(latents, labels) for source in (run, alone, file)]
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])
    assert chexdist.load_generator(file).classes == ("no_finding", "finding")


def test_a_checkpoint_of_an_early_version(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = shutil.copytree(run / "checkpoints/images-128", tmp_path / "elsewhere")
    state = json.loads((alone / "state.json").read_text())
    for settings in ({}, [], {key: 1 for key in state["settings"] if key != "model.latent"}):
        (alone / "state.json").write_text(json.dumps(state | {"settings": settings}))
        assert main(["generate", str(alone), "--no-audit", "--out", str(tmp_path / "out")]) == 2
        err = capsys.readouterr().err
        assert "model.latent" in err and "whole run directory" in err and len(err.splitlines()) == 1


Damage = Callable[[Path, Path], object]


def edited(**changes: str | None) -> Damage:
    def damage(good: Path, path: Path) -> None:
        with safe_open(good, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            said = {key: value for key, value in (file.metadata() | changes).items() if value is not None}
        save_file(tensors, path, said)

    return damage


def settings(good: Path, **changes: object) -> str:
    return json.dumps(
        json.loads(metadata(good)["settings"])
        | {key.replace("_", "."): value for key, value in changes.items()}
    )


DAMAGED: dict[str, tuple[Damage, str]] = {
    "a pickle": (lambda good, path: path.write_bytes(pickle.dumps(print)), "no safetensors file"),
    "empty": (lambda good, path: path.write_bytes(b""), "no safetensors file"),
    "cut": (lambda good, path: path.write_bytes(good.read_bytes()[:-9]), "damaged"),
    "another's": (lambda good, path: save_file({"x": torch.zeros(1)}, path), "no generator"),
    "no classes": (edited(classes=None), "no 'classes'"),
    "deep": (edited(classes="[" * 100_000), "damaged"),
    "classes of numbers": (edited(classes="{\"a\": \"b\"}"), "names no classes"),
    "one class more": (edited(classes='{"a": 1, "b": 2, "c": 3}'), "other networks"),
    "no settings": (edited(settings="{}"), "does not say model.name"),
    "setting below a value": (
        lambda good, path: edited(settings=settings(good, model_name_x=1))(good, path), "below a setting"),
    "a large network": (
        lambda good, path: edited(settings=settings(good, model_width=1024, model_size=256))(good, path),
        "other networks",
    ),
    "an unknown network": (
        lambda good, path: edited(settings=settings(good, model_name="os.system"))(good, path), "os.system"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_files_that_are_no_generators(
    name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, said = DAMAGED[name]
    good = export(run, tmp_path / "good.safetensors")
    damage(good, tmp_path / "bad.safetensors")
    capsys.readouterr()
    words = ["generate", str(tmp_path / "bad.safetensors"), "--no-audit", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert said in err and "bad.safetensors" in err and len(err.splitlines()) <= 2


def test_programs_are_not_read_back(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Loading them would run what is in them."""
    for ending in (".onnx", ".pt2"):
        assert main(["generate", str(exported / f"dcgan-True{ending}"), "--out", "out"]) == 2
        assert "only safetensors" in capsys.readouterr().err


def test_without_the_packages_of_onnx(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("onnx", "onnxscript"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            words = ["export", str(run), "--format", "onnx", "--out", str(tmp_path / "one.onnx")]
            assert main(words) == 2
        err = capsys.readouterr().err
        assert package in err and "pip install 'chexdist[export]'" in err and not list(tmp_path.iterdir())


MISTAKES = {
    "ending": (["--out", "{tmp}/one.bin"], "ends in .safetensors"),
    "there": (["--out", "{tmp}/there.safetensors"], "exists"),
    "licence": (["--out", "{tmp}/one.safetensors", "--licence", "two\nlines"], "one line"),
    "format": (["--out", "{tmp}/one.safetensors", "--format", "pickle"], "pickle"),
    "checkpoint": (["--out", "{tmp}/one.safetensors", "--checkpoint", "images-9"], "images-64, images-128"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there.safetensors").write_text("mine")
    words, said = MISTAKES[name]
    assert main(["export", str(run), *(word.format(tmp=tmp_path) for word in words)]) == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["there.safetensors"]


def test_a_checkpoint_is_not_chosen_of_a_file(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = export(run, tmp_path / "one.safetensors")
    assert main(["export", str(file), "--checkpoint", "best", "--out", str(tmp_path / "2.safetensors")]) == 2
    assert "one checkpoint, not a run directory" in capsys.readouterr().err
