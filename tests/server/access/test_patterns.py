"""Patterns mean the same to Python and to PostgreSQL, and none takes long."""

import fnmatch
import time

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datas3t.server.access.patterns import MAX_PATTERN, Pattern, PatternError

NAMES = ("a", "ab", "abc", "a-b", "a_b", "images-1", "images-22", "Images-1", "aXXb", "-", "x" * 255)


@pytest.mark.parametrize(
    ("glob", "matching"),
    [
        ("*", set(NAMES)),
        ("a*", {"a", "ab", "abc", "a-b", "a_b", "aXXb"}),
        ("a?b", {"a-b", "a_b"}),
        ("images-[0-9]", {"images-1"}),
        ("[!a]*-[12]*", {"images-1", "images-22", "Images-1"}),
        ("a[_-]b", {"a-b", "a_b"}),
        ("a[b-]*", {"ab", "abc", "a-b"}),
        ("*a*b*", {"ab", "abc", "a-b", "a_b", "aXXb"}),
        ("abc", {"abc"}),
        ("a*a", set()),
        ("**b", {"ab", "a-b", "a_b", "aXXb"}),
    ],
)
def test_a_pattern_matches_whole_names(glob: str, matching: set[str]) -> None:
    assert {name for name in NAMES if Pattern((glob,)).matches(name)} == matching


@pytest.mark.parametrize(
    "glob",
    ["", "a.b", "a/b", "a b", "[", "[]", "[!]", "a]", "[z-a]", "é", "a\n", "(a|b)", "{a,b}", "x" * (MAX_PATTERN + 1)],
)
def test_what_is_no_pattern_is_refused(glob: str) -> None:
    with pytest.raises(PatternError):
        Pattern((glob,))


def test_a_pattern_of_several_globs_matches_what_any_of_them_does() -> None:
    pattern = Pattern(("a*", "images-?"))
    assert [name for name in NAMES if pattern.matches(name)] == ["a", "ab", "abc", "a-b", "a_b", "images-1", "aXXb"]
    assert pattern.regex == "^(a.*|images-.)$"
    assert not Pattern(()).matches("a")


_GLOBS = st.text("ab-*?", min_size=1, max_size=12)


@given(glob=_GLOBS, name=st.text("ab-", min_size=1, max_size=12))
@settings(max_examples=300, deadline=None)
def test_a_pattern_is_what_fnmatch_says(glob: str, name: str) -> None:
    assert Pattern((glob,)).matches(name) == fnmatch.fnmatchcase(name, glob)


def test_the_database_matches_the_same_names(database: str) -> None:
    globs = ["a*", "a?b", "[!a]*-[12]*", "a[_-]b", "a[b-]*", "*a*b*", "images-[0-9]", "[A-Z]*", "[!A-Za-z]"]
    with psycopg.connect(database) as conn:
        for glob in globs:
            pattern = Pattern((glob, "abc"))
            rows = conn.execute("SELECT n FROM unnest(%s::text[]) AS n WHERE n ~ %s", [list(NAMES), pattern.regex])
            assert {name for (name,) in rows} == {name for name in NAMES if pattern.matches(name)}, glob


def test_no_pattern_takes_long() -> None:
    pattern = Pattern(("*a" * 100 + "*b",))
    began = time.process_time()
    assert not pattern.matches("a" * 255)
    assert time.process_time() - began < 0.5  # a backtracking matcher would take years
