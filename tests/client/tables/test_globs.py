"""Globs match the real names of files, whatever their bytes are."""

import re
from fnmatch import fnmatchcase

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datas3t.archive import paths
from datas3t.client._tables import globs
from datas3t.client.errors import InvalidArgument


def matches(pattern: str | bytes, *names: bytes) -> list[bytes]:
    glob = globs.parsed(pattern)
    found = pc.match_substring_regex(pa.array([paths.encode(name) for name in names]), f"(?s)\\A(?:{glob.regex})\\z")
    chosen = [name for name, is_match in zip(names, found.to_pylist(), strict=True) if is_match]
    assert all(paths.encode(name).startswith(glob.prefix) for name in chosen)
    return chosen


TREE = [
    b"1.jpg",
    b"cats/1.jpg",
    b"cats/2.png",
    b"cats/small/3.jpg",
    b"cats/.hidden.jpg",
    b"dogs/cats/1.jpg",
    b"cats.jpg",
]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("cats/*.jpg", [b"cats/1.jpg", b"cats/.hidden.jpg"]),
        ("cats/**/*.jpg", [b"cats/1.jpg", b"cats/small/3.jpg", b"cats/.hidden.jpg"]),
        ("**/*.png", [b"cats/2.png"]),
        ("**/1.jpg", [b"1.jpg", b"cats/1.jpg", b"dogs/cats/1.jpg"]),
        ("cats/**", [b"cats/1.jpg", b"cats/2.png", b"cats/small/3.jpg", b"cats/.hidden.jpg"]),
        ("**", TREE),
        ("**/cats/*", [b"cats/1.jpg", b"cats/2.png", b"cats/.hidden.jpg", b"dogs/cats/1.jpg"]),
        ("cats/?.[jp]*", [b"cats/1.jpg", b"cats/2.png"]),
        ("cats/[!1].*", [b"cats/2.png"]),
        ("cats/[0-1].jpg", [b"cats/1.jpg"]),
        ("cats/1.jpg", [b"cats/1.jpg"]),
        ("cats", []),
        ("c**s/1.jpg", [b"cats/1.jpg"]),
    ],
)
def test_a_glob_names_the_files_of_a_tree(pattern: str, expected: list[bytes]) -> None:
    assert matches(pattern, *TREE) == expected


def test_characters_that_are_encoded_in_paths_count_as_one() -> None:
    names = [b"100%.jpg", b"caf\xe9", b"caf\xc3\xa9", b"a%25", b"a\nb"]
    assert matches("100?.jpg", *names) == [b"100%.jpg"]
    assert matches("100[%].jpg", *names) == [b"100%.jpg"]
    assert matches("100[!%].jpg", *names) == []
    assert matches("100[ -~].jpg", *names) == [b"100%.jpg"]
    assert matches("caf?", *names) == [b"caf\xe9", b"caf\xc3\xa9"]
    assert matches(b"caf\xe9", *names) == [b"caf\xe9"]
    assert matches("caf[\udce9]", *names) == [b"caf\xe9"]
    assert matches("caf[!a-z]", *names) == [b"caf\xe9", b"caf\xc3\xa9"]
    assert matches("caf[à-ü]", *names) == [b"caf\xc3\xa9"]
    assert matches("a%25", *names) == [b"a%25"]
    assert matches("a?b", *names) == [b"a\nb"]


@settings(max_examples=300, deadline=None)
@given(
    pattern=st.text("ab%é*?[]!-.\\^$(", min_size=1, max_size=8).filter(lambda text: "**" not in text),
    name=st.text("ab%é[]!-.\\^$(", min_size=1, max_size=6),
)
def test_within_a_folder_a_glob_means_what_it_means_to_python(pattern: str, name: str) -> None:
    # A caret negates a set, as in every shell; Python alone takes it as itself.
    if not re.search(r"\[\^", pattern):
        assert bool(matches(pattern, name.encode())) == fnmatchcase(name, pattern)


def test_a_pattern_that_is_empty_or_too_long_is_refused() -> None:
    for pattern in ("", "a" * 5000):
        with pytest.raises(InvalidArgument, match="the pattern has"):
            globs.parsed(pattern)
    with pytest.raises(InvalidArgument, match="not valid Unicode"):
        globs.parsed("\ud800")
