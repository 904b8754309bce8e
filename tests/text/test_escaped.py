"""What comes from elsewhere is shown on one line, in the order in which it was written, and changes no terminal."""

import json
import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datas3t.text import escaped, escaped_json

JOINERS = "\u200c\u200d"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines", r"two\nlines"),
        ("\r\x1b[2Koverwritten", r"\r\x1b[2Koverwritten"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31mred", r"\x9b31mred"),
        ("invoice\u202egnp.exe", r"invoice\u202egnp.exe"),
        ("a\u2066b\u2069c\u200e\u200f\u061c", r"a\u2066b\u2069c\u200e\u200f\u061c"),
        ("\u2028\u2029\x85\x0b\x7f\0", r"\u2028\u2029\x85\x0b\x7f\x00"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("hidden\U000e0041", r"hidden\U000e0041"),
        ("no unicode \udcff", r"no unicode \udcff"),
    ],
)
def test_what_is_not_safe_to_show_is_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown
    assert escaped(shown) == shown


@pytest.mark.parametrize(
    "text", ["", "plain text", "Größe 10\u00a0km", "日本語\u3000名", "👩\u200d💻", "می\u200cخواهم", r"C:\new"]
)
def test_what_is_safe_stays(text: str) -> None:
    assert escaped(text) == text


@given(st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Ll", "So"])))
def test_no_control_or_format_character_is_left(text: str) -> None:
    left = {unicodedata.category(each) for each in escaped(text) if each not in JOINERS}
    hard_to_see = {each for each in escaped(text) if unicodedata.category(each) == "Cf" and each not in JOINERS}
    assert not left & {"Cc", "Cs", "Zl", "Zp"}
    assert all(unicodedata.bidirectional(each) in ("", "AN", "BN", "L", "R", "ON", "NSM") for each in hard_to_see)


def test_line_feeds_of_ours_and_bytes_for_a_pipe_can_be_kept() -> None:
    assert escaped("a\nb\r", keep="\n") == "a\nb\\r"
    assert os.fsencode(escaped("\udcff\n\ud800", keep_bytes=True)) == b"\xff\\n\\ud800"


@given(st.text())
def test_json_means_the_same_as_before(text: str) -> None:
    shown = escaped_json(json.dumps([text], ensure_ascii=False, indent=2))
    assert json.loads(shown) == [text]
    assert escaped(shown, keep="\n") == shown
