"""What is said of a configuration before it is trained."""

import pytest

from chexdist.config.load import load_config
from chexdist.run.cures import cures
from chexdist.training.advice import advice

SHIPPED = ("dcgan", "residual", "wgan-gp", "wgan-clip", "vanilla")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configurations_are_usual(name: str) -> None:
    config = load_config(name, ["--train.images", "400000"])
    texts = [each.text for each in advice(config, 640)]
    assert not [text for text in texts if not text.startswith("ema")], texts


@pytest.mark.parametrize(
    ("settings", "images", "said"),
    [
        (["--penalty.weight", "1.0"], 640, "20 times the rule"),
        (["--penalty.weight", "0.001"], 640, "1/51 of the rule"),
        (["--optim.critic.lr", "5e-3"], 640, "optim.critic.lr 0.005"),
        (["--optim.critic.lr", "1e-12"], 640, "optim.critic.lr 1e-12"),
        (["--optim.critic.lr", "1e-4", "--optim.generator.lr", "1e-3"], 640, "0.1 times"),
        (["--train.images", "48000"], 640, "3,000 updates"),
        (["--augment.name", "none"], 200, "200 training images for 64 px"),
        ([], 20, "20 training images"),
        (["--train.batch", "512"], 640, "train.batch 512 of 640"),
        (["--train.batch", "128"], 640, "lr 0.0005 with batches of 128"),
        (["--ema.ramp", "0", "--ema.halflife", "1e6"], 640, "lags"),
    ],
)
def test_what_is_unusual_is_said_with_what_is_usual(settings: list[str], images: int, said: str) -> None:
    found = advice(load_config("dcgan", settings), images)
    assert any(said in each.text and each.cure for each in found), found


def test_before_there_are_shards_the_rest_is_said() -> None:
    found = advice(load_config("dcgan", ["--penalty.weight", "1.0", "--augment.name", "none"]), None)
    (text,) = [each.text for each in found if not each.text.startswith("ema")]
    assert "20 times the rule" in text


def test_how_many_images_would_do_is_said() -> None:
    (few,) = [
        each for each in advice(load_config("dcgan", ["--augment.name", "none"]), 200) if "200" in each.text
    ]
    assert few.cure.endswith("or 512 images")
    assert "train on more images, 512 or more for 64 px" in cures("critic memorises", {"model.size": 64})


def test_rates_that_follow_a_large_batch_are_usual() -> None:
    rates = [word for name in ("generator", "critic") for word in (f"--optim.{name}.lr", "1.4e-3")]
    settings = ["--train.batch", "128", "--train.images", "800000"]
    (plain, _), followed = (advice(load_config("dcgan", [*settings, *more]), 4000) for more in ([], rates))
    assert plain.cure == "about 0.0014" and followed == []
