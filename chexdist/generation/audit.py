"""Decides which shards the pictures of a run are audited against: those that it was trained on."""

from chexdist.config.tree import Data
from chexdist.data.manifest import Manifest, read_manifest
from chexdist.errors import UserError


def training_shards(directory: str, manifest_digest: str, settings: Data) -> Manifest:
    """The manifest of the shards that a run was trained on; `settings` are those of a cache for remote ones.

    Raises:
        UserError: it can't be read, or is another one.
    """
    cure = "give the run's own with --shards DIR, or leave the audit out with --no-audit"
    try:
        manifest = read_manifest(directory, settings, manifest_digest)
    except UserError as error:
        raise UserError(f"the audit needs the shards that the run was trained on: {error}; {cure}") from None
    if manifest.digest != manifest_digest:
        raise UserError(f"{manifest.directory} holds other shards than the run was trained on: {cure}")
    return manifest
