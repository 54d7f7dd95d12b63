"""Decides what is an address of remote shards, and how it is shown: without passwords and tokens."""

import re


def is_url(text: str) -> bool:
    """Whether this is an address with a `scheme://`; anything else is a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def without_secrets(text: str) -> str:
    """A text with the user, password, query and fragment of every URL in it left out."""
    text = re.sub(r"(?<=://)[^/?#\s]*@", "", text)
    return re.sub(r"(://[^\s?#]*)[?#]\S*", r"\1", text)
