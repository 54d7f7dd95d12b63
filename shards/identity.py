"""How samples, patients and clusters are named: keyed hashes (HMAC-SHA256), the key kept elsewhere.

Whoever has the shards but not the key can't tell whether a given file or patient is among them, because the
names can't be recomputed from guesses (RFC 2104).
"""

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from shards.errors import UserError

KEY_BYTES = 32


class Names:
    """The keyed names of one build; each domain ("sample", "patient", ...) is separate from the others."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def digest(self, domain: str, *parts: bytes) -> bytes:
        """32 bytes for `parts` within `domain`; each part carries its length: no two inputs collide."""
        message = b"".join(len(part).to_bytes(8, "big") + part for part in (domain.encode(), *parts))
        return hmac.digest(self._key, message, hashlib.sha256)

    def name(self, domain: str, *parts: bytes) -> str:
        """The first 16 hex digits of `digest`."""
        return self.digest(domain, *parts).hex()[:16]

    @property
    def key_id(self) -> str:
        """8 hex digits, equal for builds that share a key, which they don't reveal."""
        return self.digest("key-id").hex()[:8]


def load_or_make_key(path: Path) -> Names:
    """The key in `path`; a fresh random one is written there (mode 0600) when there is none.

    Raises UserError when the file can't be read or written, or holds anything but 64 hex digits.
    """
    try:
        _make_key(path)
    except FileExistsError:
        pass
    except OSError as error:
        raise UserError(
            f"can't write the key file {path}: {error.strerror}; choose another with --key-file"
        ) from None
    return load_key(path)


def load_key(path: Path) -> Names:
    """The key in `path`. Raises UserError when it can't be read, or holds anything but 64 hex digits."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(
                f"{path} is not a plain file; --key-file takes a file of {2 * KEY_BYTES} hex digits"
            )
        with open(path, "rb") as file:
            text = file.read(4096)
    except OSError as error:
        raise UserError(f"can't read the key file {path}: {error.strerror}") from None
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise UserError(
            f"{path} is not a key file ({2 * KEY_BYTES} hex digits): give the right one with --key-file, "
            "or move it away to get a new key (and new names for all samples)"
        )
    return Names(key)


def _make_key(path: Path) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        try:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
