"""What an exported file says of its generator, in strings, and how a safetensors one is read back.

Only safetensors files are read: loading a torch.export archive or an ONNX file runs what is in it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError, safe_open
from torch import Tensor

from chexdist.errors import UserError, WorkError
from chexdist.run import layout

KIND = "chexdist generator 1"
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Origin:
    """Where a generator comes from: `settings` by `section.key` that must not change within a run; training
    images by class; images that the checkpoint has seen; the digest of the training shards' manifest.
    """

    settings: dict[str, Any]
    classes: dict[str, int]
    images: int
    manifest: str

    def metadata(self) -> dict[str, str]:
        """As strings: the fields, and what other programs want to know without parsing them."""
        return {
            "kind": KIND,
            "model": str(self.settings["model.name"]),
            "checkpoint": layout.after(self.images),
            **{
                key: value if isinstance(value, str) else json.dumps(value)
                for key, value in asdict(self).items()
            },
        }

    @classmethod
    def read(cls, metadata: dict[str, str]) -> Self:
        """Raises ValueError when it is not what `metadata` gave."""
        try:
            settings, classes, images = (
                json.loads(metadata[key]) for key in ("settings", "classes", "images")
            )
            found = cls(settings, classes, images, metadata["manifest"])
        except (KeyError, RecursionError) as error:
            raise ValueError(f"no {error}" if isinstance(error, KeyError) else "nested too deep") from None
        if not isinstance(settings, dict) or type(images) is not int or not 0 <= images < 10**15:
            raise ValueError("settings or images are of another kind")
        return found


def read(path: Path) -> tuple[Origin, dict[str, Tensor]]:
    """Where an exported generator comes from, and its tensors: weights and batch statistics by name.

    Raises:
        UserError: it is no file that `chexdist export --format safetensors` wrote.
        WorkError: it can't be read.
    """
    wanted = "give a run, a checkpoint's folder, or a file of `chexdist export --format safetensors`"
    if path.suffix in (".onnx", ".pt2"):
        raise UserError(f"{path}: of exported files only safetensors ones are read back; {wanted}")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("kind") != KIND:
                raise UserError(f"{path} is no generator of this version of chexdist; {wanted}")
            names = list(file.keys())
            return Origin.read(metadata), {name: file.get_tensor(name) for name in names}
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path} is damaged, or no safetensors file: {error}; {wanted}") from None
    except OSError as error:
        raise WorkError(f"{path}: {error.strerror or error}") from None
