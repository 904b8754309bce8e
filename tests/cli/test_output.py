"""Whatever is printed, text from elsewhere forges no line and changes no terminal."""

import contextlib
from collections.abc import Callable

import click
import pytest

from datas3t.cli import output

FOREIGN = "x\nforged\r\x07\x9b31m\u202e"

WAYS: dict[str, Callable[[], object]] = {
    "result": lambda: output.result(FOREIGN),
    "note": lambda: output.note(FOREIGN),
    "JSON": lambda: output.as_json([FOREIGN]),
    "table": lambda: output.table(["NAME"], [[FOREIGN]], "nothing"),
    "empty table": lambda: output.table(["NAME"], [], FOREIGN),
    "question": lambda: output.confirmed(FOREIGN, force=False),
    "error": lambda: output.report(click.ClickException(FOREIGN)),
    "error of a file": lambda: output.report(FileNotFoundError(2, FOREIGN, FOREIGN)),
    "defect": lambda: output.report(KeyError(FOREIGN)),
    "wrong usage": lambda: output.report_usage(click.UsageError(FOREIGN)),
}


@pytest.mark.parametrize("way", WAYS)
def test_text_from_elsewhere_is_escaped(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(click.ClickException):  # nobody answers the question
        WAYS[way]()
    shown = "".join(capsys.readouterr())
    assert "forged" in shown
    assert not {"\r", "\x07", "\x9b", "\u202e"} & set(shown)
    assert not [line for line in shown.split("\n") if line.startswith("forged")]
