"""How a run begins with the networks of another one (`train.start`); optimizers and order begin anew."""

from pathlib import Path

from chexdist.config.rules import differences, frozen
from chexdist.config.tree import Config
from chexdist.distributed.collectives import Collectives
from chexdist.errors import UserError
from chexdist.run import checkpoint, layout
from chexdist.training.networks import Gan


def begin_with(config: Config, gan: Gan, collectives: Collectives) -> dict[str, str]:
    """Copy the networks of the checkpoint that `train.start` names; returns which one that was.

    Raises:
        UserError: on all ranks, where there is no checkpoint, or one of other networks.
        AgreedError: on all ranks, where it is damaged.
    """
    found: list[Path] = []
    collectives.run_on_main(lambda: found.append(checkpoint.find(Path(config.train.start))))
    path = collectives.broadcast(found[0] if found else Path())
    state, live = checkpoint.read_state(path), gan.state()
    try:
        checkpoint.load(path, {name: live[name] for name in (layout.GENERATOR, layout.CRITIC, layout.EMA)})
    except UserError as error:
        unlike = differences(state.settings, frozen(config))
        models = "; ".join(line for line in unlike if line.startswith("model."))
        raise UserError(f"train.start: {error}. {models or 'The classes are others'}") from None
    if collectives.world.is_main:
        print(f"chexdist: beginning with the networks of {path}", flush=True)
    return {"checkpoint": str(path), "images": str(state.images), "manifest": state.manifest}
