"""Patterns: globs on the names of datas3ts, for Python and as a regular expression for the database."""

import re
from dataclasses import dataclass
from functools import lru_cache

MAX_PATTERN = 255  # characters
_KEPT = 1024  # globs whose translation is kept

_RANGE = "[A-Za-z0-9_]-[A-Za-z0-9_]"
# What a pattern consists of: a character of names, `*`, `?`, or a set such as [a-c] or [!a-c].
_PIECE = re.compile(rf"[A-Za-z0-9_-]|\*|\?|\[!?(?:{_RANGE}|[A-Za-z0-9_-])+\]")


class PatternError(ValueError):
    """A text is not a pattern. The message says what a pattern is."""


@dataclass(frozen=True)
class Pattern:
    """What any of its globs matches.

    Raises:
        PatternError: A glob is not valid.
    """

    globs: tuple[str, ...]

    def __post_init__(self) -> None:
        for glob in self.globs:
            if not 1 <= len(glob) <= MAX_PATTERN or "".join(_PIECE.findall(glob)) != glob:
                raise PatternError(
                    f"must be 1 to {MAX_PATTERN} characters: letters, digits, - and _, * for any characters, ? for one,"
                    " and [a-c] or [!a-c] for one of some"
                )
            _translated(glob)

    @property
    def matches_all(self) -> bool:
        """Whether every name matches."""
        return "*" in self.globs

    @property
    def regex(self) -> str | None:
        """A regular expression of PostgreSQL that matches the same names; None if every name matches."""
        return None if self.matches_all else f"^({'|'.join(map(_translated, self.globs))})$"

    def matches(self, name: str) -> bool:
        """Return whether the name of a datas3t matches."""
        return self.matches_all or any(_matches(glob, name) for glob in self.globs)

    def __str__(self) -> str:
        return " or ".join(self.globs) or "none"


def _matches(glob: str, name: str) -> bool:
    """Compare a name with a glob, in time that grows with the product of their lengths at most.

    A regular expression with several `.*` would try all divisions of the name among them. The parts between two `*`
    have fixed lengths, so to take each one as early as possible is right.
    """
    first, *others = _parts(glob)
    start = first.match(name)
    if start is None:
        return False
    at = start.end()
    for part in others[:-1]:
        found = part.search(name, at)
        if found is None:
            return False
        at = found.end()
    return others[-1].search(name, at) is not None if others else at == len(name)


@lru_cache(_KEPT)
def _parts(glob: str) -> list[re.Pattern[str]]:
    """Return the parts of a glob between its `*`; if there are several, the last one ends at the end of a name."""
    parts = [_translated(part) for part in glob.split("*")]
    if len(parts) > 1:
        parts[-1] = rf"(?:{parts[-1]})\Z"
    return [re.compile(part) for part in parts]


@lru_cache(_KEPT)
def _translated(glob: str) -> str:
    """Return the regular expression of a glob, or of a part of one, without anchors."""
    return "".join(_translated_piece(piece) for piece in _PIECE.findall(glob))


def _translated_piece(piece: str) -> str:
    if piece in "*?":
        return ".*" if piece == "*" else "."
    if not piece.startswith("["):
        return piece
    members = re.findall(rf"{_RANGE}|.", piece.strip("[!]"))
    if any(len(each) > 1 and each[0] > each[2] for each in members):
        raise PatternError(f"has the set {piece}, with a range whose characters are not in order")
    # A hyphen that makes no range comes last, where it stands for itself in every dialect.
    hyphen = "-" if "-" in members else ""
    return f"[{'^' if piece[1] == '!' else ''}{''.join(each for each in members if each != '-')}{hyphen}]"


ALL = Pattern(("*",))
