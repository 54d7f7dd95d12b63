"""Under which heading numbers stand, which of them in one table, and which are folded."""

import json
from typing import Any

import pytest
from helpers.full_runs import evaluate_fully
from helpers.run_files import MakeRun, metric, protocol

from chexdist.metrics import METRICS, near_copy_rate
from chexdist.metrics.estimate import Estimate
from chexdist.metrics.value import Metric
from chexdist.report import copies
from chexdist.report.collect import RunRecord, collect
from chexdist.report.compare import compare
from chexdist.report.meanings import MEANINGS
from chexdist.report.themes import COPIES, DISTANCE, DIVERSITY, LABELS, PAIRS, PER_METRIC, Block, themes

UNKNOWN = "of_an_earlier_release"


def blocks_of(runs: list[RunRecord]) -> dict[str, list[Block]]:
    return {theme.name: theme.blocks for theme in themes(compare(runs), runs)}


def test_every_metric_has_its_heading(make_run: MakeRun) -> None:
    run = make_run(lines=[])
    evaluate_fully(run)
    found = blocks_of(collect([str(run)]))
    names = {
        name: [base for block in blocks for base, of in block.comparisons if not of]
        for name, blocks in found.items()
    }
    assert sorted(base for bases in names.values() for base in bases) == sorted(METRICS)
    assert set(names[DISTANCE]) == {"kid_x1000", "kid_all_pairs_x1000", "fid", "fid_train"}
    assert {"precision_k5", "recall_k5", "feature_distance", "ms_ssim_own_pairs_256px"} < set(
        names[DIVERSITY]
    )
    assert {"label_accuracy", "mirrored"} < set(names[LABELS])
    assert names[COPIES] == ["near_copy_rate"] and len(names[PAIRS]) == 3
    assert len(found[PAIRS][0].parts) == 3
    # what one way of measuring gave is one block, whatever part of the shards each metric is of
    assert [len(blocks) for name, blocks in found.items() if name != DIVERSITY] == [1] * 4
    assert len(found[DIVERSITY]) == 2  # features, and pairs of images
    parts = found[DIVERSITY][0].parts
    assert [part.of_class for part in parts] == ["", "finding", "no_finding"]
    assert parts[0].fields["reference_split"] == (
        "train, half of the patients (Precision, Recall, Density and Coverage); val (Distance of features)"
    )


def test_a_column_is_of_one_protocol_and_tables_of_one_way(make_run: MakeRun) -> None:
    runs = [make_run("a", lines=[]), make_run("b", lines=[])]
    evaluate_fully(runs[0])
    evaluate_fully(runs[1], extractors=("efficientnet-lite0", "random-conv"))
    found = blocks_of(collect([str(run) for run in runs]))
    for block in (block for blocks in found.values() for block in blocks):
        for fields in block.own_fields.values():
            assert {k: v for k, v in fields.items() if k not in PER_METRIC} == block.fields
    own, other = found[DISTANCE]
    assert (own.fields["extractor"], own.folded) == ("efficientnet-lite0", False)
    assert (other.fields["extractor"], other.folded) == ("random-conv", True)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("change", [{"n": 64}, {"reference_split": "test"}])
def test_another_number_of_images_or_another_split_is_apart(
    change: dict[str, Any], first: bool, make_run: MakeRun
) -> None:
    run = make_run(lines=[])
    names = ("kid_x1000", "kid_all_pairs_x1000")
    for number, (bases, changes) in enumerate(
        ((names[:1], change if first else {}), (names, {} if first else change))
    ):
        split = str(changes.get("reference_split", "val"))
        name, fields = protocol(split, **{k: v for k, v in changes.items() if k == "n"})
        lines = [metric(base, 5.0 + number, 1000, 1.0, protocol=name) for base in bases]
        folder = run / "evaluations" / f"images-1000-{number}"
        folder.mkdir(parents=True)
        document = {"images": 1000, "split": split, "seed": 0, "refused": {}}
        document |= {"protocols": {name: fields}, "metrics": lines}
        (folder / "evaluation.json").write_text(json.dumps(document))
    blocks = blocks_of(collect([str(run)]))[DISTANCE]
    assert sorted(len(block.comparisons) for block in blocks) == [1, 2]
    assert sum(block.folded for block in blocks) == 1
    assert all(len({each.protocol for each in block.comparisons.values()}) == 1 for block in blocks)


def test_an_unknown_metric_stands_among_those_of_its_protocol(make_run: MakeRun) -> None:
    name = protocol()[0]
    lines = [metric(base, 1.0, 1000, protocol=name) for base in ("label_accuracy", UNKNOWN)]
    found = blocks_of(collect([str(make_run(lines=lines))]))
    assert [[*block.comparisons] for block in found[LABELS]] == [[("label_accuracy", ""), (UNKNOWN, "")]]


def test_numbers_are_explained_where_they_stand() -> None:
    """Those of random pairs are, by the notice above them."""
    pairs = {name for name, spec in METRICS.items() if spec.computed_from == "pairs"}
    assert MEANINGS.keys() == METRICS.keys() - pairs


@pytest.mark.parametrize(("low", "high"), [(0.01, 0.2), (0.0, 0.1), (0.0, 0.100001), (0.0, 0.02), (0.5, 1.0)])
def test_the_verdict_on_copies_is_that_of_the_metric(low: float, high: float) -> None:
    words = {
        near_copy_rate.COPIES: "some images are copies",
        near_copy_rate.NONE: "no sign of copies",
        near_copy_rate.TOO_FEW: "too few images to say",
    }
    line = metric("near_copy_rate", 0.3, 1000) | {"low": low, "high": high}
    said = copies._verdict(Metric.from_dict(line))
    assert said.startswith(words[near_copy_rate.verdict(Estimate(0.3, low, high, 100, 512))])
