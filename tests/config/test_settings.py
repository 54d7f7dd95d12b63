"""Every setting is documented; its names are those of a registry; an unknown key gets the nearest."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chexdist.config.load import build_config
from chexdist.config.reference import as_page, groups, settings
from chexdist.config.shipped import shipped
from chexdist.errors import UserError
from chexdist.gan.augment import AUGMENTS
from chexdist.gan.clips import CLIPS
from chexdist.gan.losses import LOSSES
from chexdist.gan.models import FAMILIES
from chexdist.gan.penalties import PENALTIES
from chexdist.metrics import METRICS
from chexdist.metrics.extractors import EXTRACTORS

PAGE = Path(__file__).parents[2] / "docs/settings.md"
PURE_NUMBERS = {
    "penalty.weight",
    "clip.value",
    "augment.probability",
    "ema.ramp",
    "train.seed",
    "optim.generator.lr",
    "optim.generator.betas",
    "optim.critic.lr",
    "optim.critic.betas",
}
"""What has no unit."""

NAMES: dict[str, list[str]] = {
    "model.name": [*FAMILIES],
    "model.norm": [*dict.fromkeys(norm for name in FAMILIES for norm in FAMILIES[name].NORMS)],
    "loss.name": [*LOSSES],
    "penalty.name": [*PENALTIES],
    "clip.name": [*CLIPS],
    "augment.name": [*AUGMENTS],
    "eval.extractor": [*EXTRACTORS],
    "checkpoint.best": [*(name for name, metric in METRICS.items() if metric.in_training), "none"],
}


def tree(**sections: dict[str, Any]) -> dict[str, Any]:
    return {"model": {"name": "wgan"}, "loss": {"name": "hinge"}} | sections


def test_the_page_of_settings_is_written_from_the_tree() -> None:
    assert PAGE.read_text() == as_page(), "python -m chexdist.config.reference > docs/settings.md"


def test_every_setting_has_its_sentence_and_its_unit() -> None:
    dumped = build_config(tree()).model_dump()
    assert [group.name for group in groups()] == [*dumped]
    networks = dumped["optim"]
    inner = {f"optim.{network}.{key}" for network in networks for key in networks[network]}
    others = {f"{section}.{key}" for section in dumped.keys() - {"optim"} for key in dumped[section]}
    assert {setting.key for setting in settings()} == inner | others
    for documented in (*settings(), *groups()):
        assert documented.text[:1].isupper() and documented.text.endswith("."), documented
    for setting in settings():
        is_number = "number" in setting.kind and setting.key not in PURE_NUMBERS
        assert setting.kind.endswith(")") == is_number or setting.key == "model.size", setting


@pytest.mark.parametrize("key", NAMES)
def test_the_names_of_a_setting_are_those_of_its_registry(key: str) -> None:
    section, _, name = key.partition(".")
    for value in NAMES[key]:
        if key == "model.norm":
            model = next(family for family in FAMILIES if value in FAMILIES[family].NORMS)
            assert build_config(tree(model={"name": model, "norm": value})).model.norm == value
        else:
            assert getattr(getattr(build_config(tree(**{section: {name: value}})), section), name) == value
    expected = "must be " + " or ".join([", ".join(map(repr, NAMES[key][:-1])), repr(NAMES[key][-1])])
    given = {"name": "wgan", name: "nonsense"} if section == "model" else {name: "nonsense"}
    with pytest.raises(UserError, match="nonsense") as caught:
        build_config(tree(**{section: given}))
    assert key in str(caught.value) and expected in str(caught.value)


def test_a_line_in_a_registry_is_all_that_the_configuration_needs() -> None:
    script = """
import json
from chexdist.gan.augment import AUGMENTS
from chexdist.gan.clips import CLIPS
from chexdist.gan.losses import LOSSES
from chexdist.gan.models import FAMILIES
from chexdist.gan.penalties import PENALTIES
from chexdist.metrics import METRICS
from chexdist.metrics.extractors import EXTRACTORS
for registry in (AUGMENTS, CLIPS, LOSSES, FAMILIES, PENALTIES, EXTRACTORS):
    registry._modules["new"] = next(filter(None, registry._modules.values()))
METRICS["new"] = METRICS["kid_x1000"]
from chexdist.config.load import build_config
from chexdist.config.reference import as_help
names = {section: {"name": "new"} for section in ("model", "loss", "penalty", "clip", "augment")}
config = build_config(names | {"eval": {"extractor": "new"}, "checkpoint": {"best": "new"}})
print(json.dumps([config.model_dump_json().count('"new"'), as_help(10**6).count("        new: ")]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [7, 7]


def test_a_relativistic_loss_is_a_loss() -> None:
    assert build_config(tree(loss={"name": "relativistic"})).loss.name == "relativistic"


@pytest.mark.parametrize(
    ("section", "key", "nearest"),
    [
        ("train", "bacth", "train.batch"),
        ("penalty", "evry", "penalty.every"),
        ("data", "windows", "data.window"),
        ("checkpoint", "kep", "checkpoint.keep"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(section: str, key: str, nearest: str) -> None:
    given = tree(**{section: {key: 1}})
    with pytest.raises(UserError, match=rf"{section}\.{key}: no such setting; the nearest is {nearest}$"):
        build_config(given)


def test_an_unknown_section_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="trian: no such setting; the nearest is train$"):
        build_config(tree(trian={"batch": 1}))


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_configuration_begins_with_what_it_is_for(name: str) -> None:
    """One sentence, since it stands in a list; why it is as it is comes below."""
    first, second = shipped()[name].read_text().splitlines()[:2]
    assert first.startswith("# ") and first.endswith(".") and second.startswith("# ")
