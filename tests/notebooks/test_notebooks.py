"""Each notebook runs from its first cell to its last with a tiny budget, and is kept without what it
printed.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
GANS = {"Vanilla_GAN": ["vanilla"], "WGAN": ["wgan-clip", "wgan-gp"], "DCGAN": ["dcgan"]}
"""The configurations that each notebook trains."""
TINY = {"PATIENTS": "90", "IMAGES": "16", "SAMPLES": "64", "WIDTH": "4"}


def test_there_is_a_notebook_for_each_gan() -> None:
    assert {path.stem for path in FOLDER.iterdir() if path.suffix == ".ipynb"} == GANS.keys()


@pytest.mark.parametrize("name", GANS)
def test_nothing_that_was_printed_is_kept(name: str) -> None:
    """Nor a path of somebody's machine."""
    text = (FOLDER / f"{name}.ipynb").read_text()
    for cell in nbformat.reads(text, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
            assert not re.search(r"[\"' =]/\w", cell.source), cell.source


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("Vanilla_GAN", False),
        pytest.param("WGAN", True, marks=pytest.mark.slow),
        pytest.param("DCGAN", True, marks=pytest.mark.slow),
    ],
)
def test_runs_to_its_end(
    name: str,
    own: bool,
    build_shards: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On the phantom's shards, which it makes, or on the reader's `own`."""
    for variable, value in TINY.items():
        monkeypatch.setenv(variable, value)
    if own:
        monkeypatch.setenv("SHARDS", str(build_shards(96, 20, split="train=0.75,val=0.25")))
    book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    NotebookClient(book, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert not re.search(r"^(chexdist|chexdist-shards|Traceback)\b.*:", printed, re.MULTILINE), printed
    for run in (tmp_path / "results" / gan for gan in GANS[name]):
        assert json.loads((run / "status.json").read_text())["state"] == "done"
        (evaluation,) = run.glob("evaluations/*/evaluation.json")
        assert json.loads(evaluation.read_text())["metrics"]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert (
        len(pictures) == 1 + 1 + 2 * len(GANS[name]) + 1
    )  # X-rays, curves, two classes of each GAN, latents
