"""Globs over the real names of files, as regular expressions over their paths in the table `files`.

A path has its name percent-encoded where that is needed (`archive.paths`), so one character of a name may be three of
its path. The regular expressions are those of RE2, whose time does not grow with backtracking.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from datas3t.archive import paths
from datas3t.client.errors import InvalidArgument

_MAX_PATTERN = 4096  # characters
_ONE = "(?:%[0-9A-F]{2}|[^/%])"  # one character of a name, or one byte that is no UTF-8
_SPECIAL = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern.

    Attributes:
        regex: What matches the paths of the files that it names, whole.
        prefix: How all these paths begin.
        is_literal: Whether it names one path, `prefix`.
    """

    regex: str
    prefix: str
    is_literal: bool


def parsed(pattern: str | bytes) -> Glob:
    """Return a pattern as regular expression.

    `*` stands for any characters but `/`, `?` for one, `[abc]`, `[a-z]` and `[!a-z]` for one of a set. A part `**`
    between slashes stands for any number of folders, also for none, and at the end for all that is below. Names that
    begin with a dot are no exception.

    Raises:
        InvalidArgument: No file can have such a name, or the pattern is too long.
    """
    text = pattern.decode("utf-8", "surrogateescape") if isinstance(pattern, bytes) else pattern
    if not text or len(text) > _MAX_PATTERN:
        raise InvalidArgument(f"the pattern has {len(text)} characters; it must have 1 to {_MAX_PATTERN}")
    try:
        special = _SPECIAL.search(text)
        prefix = paths.encode(text[: special.start()] if special else text)
        return Glob("".join(_translated(text)), prefix, special is None)
    except paths.PathError as error:
        raise InvalidArgument(str(error)) from None


def _translated(text: str) -> Iterator[str]:
    parts = text.split("/")
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        if part == "**":
            yield ".+" if is_last else "(?:[^/]+/)*"
        else:
            yield "".join(_part(part))
            if not is_last:
                yield "/"


def _part(part: str) -> Iterator[str]:
    at = 0
    while at < len(part):
        if part[at] == "*":
            while at + 1 < len(part) and part[at + 1] == "*":
                at += 1
            yield "[^/]*"
        elif part[at] == "?":
            yield _ONE
        elif part[at] == "[" and (end := part.find("]", at + 3 if part[at + 1 : at + 2] in "!^" else at + 2)) > 0:
            yield _set(part[at + 1 : end])
            at = end
        else:
            yield _literal(part[at])
        at += 1


def _literal(character: str) -> str:
    """Return what matches one character of a name."""
    return re.escape(paths.encode(character))


def _set(text: str) -> str:
    """Return what matches one character of a name that is in a set, such as "a-z", or is not in it, such as "!a-z"."""
    negated = text[:1] in ("!", "^")
    ranges = list(_ranges(text[1:] if negated else text))
    # Bytes that are no UTF-8, and the percent sign, are three characters of a path each.
    encoded = [chr(code) for code in (ord("%"), *range(0xDC80, 0xDD00)) if _holds(ranges, code) != negated]
    plain = "".join(_bounds(first, last) for first, last in ranges)
    choices = [re.escape(paths.encode(each)) for each in encoded]
    if negated:
        choices.append(f"[^/%{plain}]")
    elif plain:
        choices.append(f"[{plain}]")
    return f"(?:{'|'.join(choices)})" if choices else r"[^\x00-\x{10FFFF}]"


def _ranges(text: str) -> Iterator[tuple[int, int]]:
    """Yield the first and last characters of the ranges in a set."""
    at = 0
    while at < len(text):
        if text[at + 1 : at + 2] == "-" and at + 2 < len(text):
            if ord(text[at]) <= ord(text[at + 2]):  # others are empty
                yield ord(text[at]), ord(text[at + 2])
            at += 3
        else:
            yield ord(text[at]), ord(text[at])
            at += 1


def _holds(ranges: list[tuple[int, int]], code: int) -> bool:
    return any(first <= code <= last for first, last in ranges)


def _bounds(first: int, last: int) -> str:
    """Return a range of characters as RE2 takes it, without slash, percent sign and halves of pairs."""
    pieces = [(first, last)]
    for low, high in ((ord("%"), ord("%")), (ord("/"), ord("/")), (0xD800, 0xDFFF)):
        pieces = [
            piece
            for one, other in pieces
            for piece in ((one, min(other, low - 1)), (max(one, high + 1), other))
            if piece[0] <= piece[1]
        ]
    return "".join(rf"\x{{{one:X}}}-\x{{{other:X}}}" for one, other in pieces)
