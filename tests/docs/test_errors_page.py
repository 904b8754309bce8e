"""docs/errors.md lists the metadata that the server sends with each reason."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
SOMETIMES = {"INTERNAL", "MALFORMED_REQUEST", "ACCESS_DENIED"}  # their metadata is sent in some cases only


class Raised(NamedTuple):
    """A call of `Failure` in the server's source. `is_complete` unless metadata comes from a mapping."""

    place: str
    reason: str
    metadata: set[str]
    is_complete: bool


def documented() -> dict[str, set[str]]:
    """Return the metadata of each reason on the page."""
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \|(.*)$", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
    return {reason: set(re.findall(r"`(\w+)`", text.partition("Metadata:")[2])) for reason, text in rows}


def raised() -> Iterator[Raised]:
    """Yield the calls of `Failure` whose reason is a constant."""
    for path in sorted((ROOT / "server/datas3t/server").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Failure":
                reason = node.args[0] if node.args else None
                if isinstance(reason, ast.Attribute):
                    names = [keyword.arg for keyword in node.keywords]
                    place, name = f"{path.relative_to(ROOT)}:{node.lineno}", reason.attr.removeprefix("ERROR_REASON_")
                    yield Raised(place, name, {each for each in names if each}, None not in names)


DOCUMENTED = documented()


@pytest.mark.parametrize("call", [*raised()], ids=lambda call: f"{call.place} {call.reason}")
def test_the_metadata_of_an_error_is_documented(call: Raised) -> None:
    assert call.metadata <= DOCUMENTED[call.reason]
    if call.is_complete and call.reason not in SOMETIMES:
        assert call.metadata == DOCUMENTED[call.reason]


def test_most_reasons_are_found_in_the_source() -> None:
    assert len({call.reason for call in raised()}) > len(DOCUMENTED) / 2
