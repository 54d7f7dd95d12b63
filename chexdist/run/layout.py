"""What everything in a run directory is called: no package above spells these names. Light, since reports and
checks read it too.

    RUN/lock                           held by the process that trains here
    RUN/config.yaml                    the resolved settings
    RUN/provenance.json                versions, commit, command, hardware
    RUN/status.json                    running, done, preempted or failed; images, cause, rank
    RUN/metrics.jsonl                  a line for each loss and metric
    RUN/fetched.jsonl                  bytes of remote shards by node, a line an epoch
    RUN/ranks.jsonl                    seconds of a batch, waiting, busy, memory by rank, a line a minute
    RUN/samples/{real,images-N}.png    real X-rays; generated ones after N images
    RUN/samples/learning.webp          those of generated ones, as an animation; made when training ends
    RUN/draws/{real,images-N}.safetensors
                                       what training measured of real X-rays and of the mean image, and of
                                       generated images after N, under the bootstrap's weights
    RUN/checkpoints/images-N/          five .safetensors files; complete when state.json, the last, exists
    RUN/evaluations/images-N-SPLIT-sSAMPLES-seedSEED-DIGEST/
                                       evaluation.json; draws.safetensors; CLASS.png for each class, or
                                       all.png without classes; real/closest.png: the generated images most
                                       similar to training images, beside these; latents/interpolation.png:
                                       rows from one latent to another; earlier releases called it
                                       images-N-SPLIT
    PICTURES-evaluation/               what is measured of a folder of pictures: config.yaml,
                                       provenance.json, status.json and evaluations/ as in a run
    RUN/heartbeats/rank-N.json         who, where and how far each rank is; named by `distributed.heartbeat`
    RUN/heartbeats/ended-START/        the ranks of a start that gave up: KIND-N.json
    RUN/features/DIGEST.safetensors    of real images, which a restart need not embed again
    RUN/tensorboard/                   the same as metrics.jsonl, where a tracker is wanted
    RUN/report.html                    by custom, what `chexdist report` writes

While they are written, files are called .NAME.partial-PID (`shards.files`) and checkpoints .partial-images-N.
`chexdist doctor` makes .doctor-TOKEN/ there to see whether all ranks share the disk, and removes it.
"""

import re
from pathlib import Path

LOCK = "lock"
CONFIG = "config.yaml"
PROVENANCE = "provenance.json"
STATUS = "status.json"
LOG = "metrics.jsonl"
FETCHED = "fetched.jsonl"
RANKS = "ranks.jsonl"
SAMPLES = "samples"
REAL = "real"
CHECKPOINTS = "checkpoints"
STATE = "state.json"
EVALUATIONS = "evaluations"
EVALUATION = "evaluation.json"
DRAWS = "draws.safetensors"
PICTURES = "pictures"
"""The state of a folder of evaluations of pictures, which is no run."""
TRAINING_DRAWS = "draws"
CLOSEST = "closest.png"
LATENTS, INTERPOLATION = "latents", "interpolation.png"
UNCONDITIONAL = "all"
HEARTBEATS = "heartbeats"
FEATURES = "features"
TENSORBOARD = "tensorboard"
REPORT = "report.html"

GENERATOR, CRITIC, EMA = "generator.safetensors", "critic.safetensors", "ema.safetensors"
GENERATOR_OPTIMIZER, CRITIC_OPTIMIZER = "generator_optimizer.safetensors", "critic_optimizer.safetensors"
TENSORS = (GENERATOR, CRITIC, EMA, GENERATOR_OPTIMIZER, CRITIC_OPTIMIZER)
"""The tensors of a checkpoint."""


def after(images: int) -> str:
    """`images-N`: the name of what belongs to the state after so many images."""
    return f"images-{images}"


def images_of(name: str) -> int | None:
    """N of `images-N`; None for any other name."""
    match = re.fullmatch(r"images-([0-9]{1,15})", name)
    return int(match[1]) if match else None


def checkpoint(run: Path, images: int) -> Path:
    """The directory of a checkpoint."""
    return run / CHECKPOINTS / after(images)


def partial(checkpoint: Path) -> Path:
    """What a checkpoint is called while it is written or deleted: a kill in between leaves no complete
    one.
    """
    return checkpoint.with_name(f".partial-{checkpoint.name}")


def partials(run: Path) -> list[Path]:
    """What interrupted writes and deletions of checkpoints left."""
    return list((run / CHECKPOINTS).glob(".partial-*"))


def checkpoints(run: Path) -> list[Path]:
    """The directories of complete checkpoints, newest first; they may be damaged all the same."""
    found = {
        path.parent: images_of(path.parent.name) for path in (run / CHECKPOINTS).glob(f"images-*/{STATE}")
    }
    numbered = {path: images for path, images in found.items() if images is not None}
    return sorted(numbered, key=lambda path: -numbered[path])


def sample(run: Path, name: str) -> Path:
    """The picture of images called REAL, or after N of generated ones."""
    return run / SAMPLES / f"{name}.png"


def samples(run: Path) -> dict[int, Path]:
    """The pictures of generated images by the number of images after which they were drawn."""
    found = {images_of(path.stem): path for path in (run / SAMPLES).glob("images-*.png")}
    return {images: path for images, path in found.items() if images is not None}


def animation(run: Path) -> Path:
    """How the run learned, in moving pictures."""
    return run / SAMPLES / "learning.webp"


def training_draws(run: Path) -> dict[int, Path]:
    """The files of what training measured under the bootstrap's weights (`run.draws`), by images."""
    found = {images_of(path.stem): path for path in (run / TRAINING_DRAWS).glob("images-*.safetensors")}
    return {images: path for images, path in found.items() if images is not None}


def draws_of_training(run: Path, name: str) -> Path:
    """The file called REAL, or after N of these."""
    return run / TRAINING_DRAWS / f"{name}.safetensors"


def real_samples(run: Path) -> Path:
    """The picture of real X-rays."""
    return sample(run, REAL)


def evaluation(run: Path, images: int, split: str, samples: int, seed: int, digest: str) -> Path:
    """The directory of what `chexdist evaluate` measured of one checkpoint by one command; `digest` is of the
    protocols.
    """
    return run / EVALUATIONS / f"{after(images)}-{split}-s{samples}-seed{seed}-{digest}"


def draws(evaluation: Path) -> Path:
    """The file of its numbers under the bootstrap's weights (`run.draws`)."""
    return evaluation / DRAWS


def evaluation_of_pictures(pictures: Path) -> Path:
    """Where the evaluations of a folder of pictures go: beside it, never in it."""
    return pictures.with_name(f"{pictures.name}-evaluation")


def evaluation_grid(evaluation: Path, label: str | None) -> Path:
    """The picture of generated images of one class, or (None) of an unconditional model."""
    return evaluation / f"{UNCONDITIONAL if label is None else label}.png"


def closest(evaluation: Path) -> Path:
    """The picture of the generated images most similar to training images, each with that image at its right:
    real X-rays, so in a folder of their own, which no class can be called.
    """
    return evaluation / REAL / CLOSEST


def interpolation(evaluation: Path) -> Path:
    """The picture of rows of generated images from one latent to another, in a folder of its own as above."""
    return evaluation / LATENTS / INTERPOLATION


def evaluations(run: Path) -> list[Path]:
    """The files of complete evaluations, in no order that means anything."""
    return sorted((run / EVALUATIONS).glob(f"*/{EVALUATION}"))


def features(run: Path, digest: str) -> Path:
    """The features of real images that a run keeps under this digest."""
    return run / FEATURES / f"{digest}.safetensors"
