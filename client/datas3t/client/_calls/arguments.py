"""Checks of arguments that protobuf would refuse with an exception that names no argument."""

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


def _is_valid(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
