"""Examines a configuration by the rules of thumb that training begins with."""

from chexdist.config.tree import Config
from chexdist.doctor.finding import Note
from chexdist.training.advice import advice


def check_advice(note: Note, config: Config, images: int | None) -> None:
    """The doctor's findings: a warning for each, or that nothing is unusual. None: no shards yet."""
    found = advice(config, images)
    for each in found:
        note.warning(each.text, f"usual is {each.cure}")
    if not found:
        of = "this size and these images" if images is not None else "this size"
        note.ok(f"weights, rates, batch and budget are within what is usual for {of}")
