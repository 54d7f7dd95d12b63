"""What a step is made of, against torch's own counter on the CPU, and what is said of a rank's share."""

import re
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from chexdist.config.load import load_config
from chexdist.config.spec import spec_of
from chexdist.config.tree import Config
from chexdist.doctor.finding import Finding, Findings, Verdict
from chexdist.doctor.launches import ARITHMETIC, LAUNCH, check_launches, work_of
from chexdist.gan.models import FAMILIES


def config(name: str, *more: str) -> Config:
    return load_config(name, ["--model.size=32", "--model.width=8", *more])


def said(settings: Config, share: int, ranks: int) -> Finding:
    findings = Findings()
    findings.check("launches", lambda note: check_launches(note, settings, 2, share, ranks))
    (found,) = findings.found
    return found


@pytest.mark.parametrize("name", ("vanilla", "dcgan", "residual"))
def test_arithmetic_is_that_of_the_passes_on_the_cpu(name: str) -> None:
    """Of a step without penalty: torch's counter can't follow a gradient that is differentiated again."""
    settings = config(name, "--penalty.name=none")
    family, spec, images = FAMILIES[settings.model.name], spec_of(settings, 2), 8
    generator, critic = family.Generator(spec), family.Critic(spec)
    latent, label = torch.randn(images, settings.model.latent), torch.zeros(images, dtype=torch.int64)
    real = torch.randn(images, 1, 32, 32)
    with FlopCounterMode(display=False) as counter:
        with torch.no_grad():
            fake = generator(latent, label)
        critic(torch.cat([real, fake]), torch.cat([label, label])).sum().backward()
        critic.requires_grad_(False)
        critic(generator(latent, label), label).sum().backward()
        if settings.loss.name == "relativistic":
            critic(real, label)
    assert work_of(settings, 2).arithmetic == pytest.approx(counter.get_total_flops() / images)


def test_a_penalty_and_more_critic_updates_are_more_work() -> None:
    plain, penalised = (work_of(config("dcgan", f"--penalty.name={name}"), 2) for name in ("none", "r1"))
    assert plain.operators < penalised.operators and plain.arithmetic < penalised.arithmetic
    twice = work_of(config("dcgan", "--penalty.name=none", "--train.n_critic=2"), 2)
    assert plain.operators < twice.operators < 2 * plain.operators


def test_few_images_a_rank_wait_for_launches() -> None:
    settings = config("dcgan")
    work = work_of(settings, 2)
    assert work.enough == round(LAUNCH * work.operators / (work.arithmetic / ARITHMETIC))
    few = said(settings, 8, 1024)
    assert few.verdict == Verdict.WARNING and f"{work.operators:,} operators a step" in few.text
    assert f"{8 * 1024 // work.enough:,} rank" in few.cure and f"from {work.enough:,} images" in few.cure
    assert said(settings, 2 * work.enough, 1024).verdict == Verdict.OK


def test_one_rank_with_few_images_is_told_a_larger_width() -> None:
    assert "a larger width" in said(config("dcgan"), 8, 1).cure


def test_the_page_has_what_is_worked_out() -> None:
    page = (Path(__file__).parents[2] / "docs" / "many-ranks.md").read_text()
    rows = re.findall(r"^\| ([\w-]+), (\d+) px \| (\d+) \| ([\d.]+) \| (\d+) \|$", page, re.MULTILINE)
    assert len(rows) == 7
    for name, size, *numbers in rows:
        shipped = load_config(name, [])
        work = work_of(shipped, 2)
        assert shipped.model.size == int(size)
        assert numbers == [f"{work.operators}", f"{work.arithmetic / 1e9:.2g}", f"{work.enough}"]
