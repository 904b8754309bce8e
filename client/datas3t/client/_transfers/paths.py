"""Paths as people type them: an empty one is a mistake, never the current folder."""

import os

from datas3t.client.errors import InvalidArgument


def checked(path: str | os.PathLike[str], what: str) -> str:
    """Return a path as text. Raise InvalidArgument, which says `what` it is for, if it can name nothing."""
    text = os.fspath(path)
    if not text:
        raise InvalidArgument(f"the path of {what} is empty; name a file or a folder")
    if "\0" in text:
        raise InvalidArgument(f"the path of {what} has a NUL character: {text!r}")
    return text


def in_utf8(path: str) -> str:
    """Return the text of a path whose bytes are read as UTF-8, whatever the locale; other bytes stay as they are."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")
