"""Checks of arguments which would otherwise fail later, with an error that names no argument."""

import os

from datas3t.client.errors import InvalidArgument

_MAX_SHOWN = 80  # characters of a value


def check_text(**arguments: str | None) -> None:
    """Raise InvalidArgument if one of the arguments, which are given by their names, is not valid Unicode.

    Python's text can have halves of surrogate pairs, such as those that stand for bytes of a file's name. A message
    cannot.
    """
    for name, text in arguments.items():
        if text is not None and not _is_valid(text):
            raise InvalidArgument(f"{name} is {text[:_MAX_SHOWN]!r}, which is not valid Unicode; correct it")


def check_secret(**arguments: str) -> None:
    """Do what `check_text` does, without showing a value."""
    for name, text in arguments.items():
        if not _is_valid(text):
            raise InvalidArgument(f"{name} is not valid Unicode; correct it")


def check_path(path: str | os.PathLike[str], what: str) -> str:
    """Return a path as text. Raise InvalidArgument, which says `what` it is for, if it can name nothing.

    An empty path is a mistake, and never the current folder.
    """
    text = os.fspath(path)
    if not text:
        raise InvalidArgument(f"the path of {what} is empty; name a file or a folder")
    if "\0" in text:
        raise InvalidArgument(f"the path of {what} has a NUL character: {text!r}")
    return text


def _is_valid(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
