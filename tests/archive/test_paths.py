"""Names of files as text, and back."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datas3t.archive import FormatError, paths

names = st.one_of(st.binary(), st.text(max_size=30).map(lambda text: text.encode("utf-8", "replace")))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"cats/1.jpg", "cats/1.jpg"),
        ("café.jpg".encode(), "café.jpg"),
        (b"caf\xe9.jpg", "caf%E9.jpg"),
        (b"100%.txt", "100%25.txt"),
        (b"%\xff%41", "%25%FF%2541"),
        (b"two\nlines", "two\nlines"),
        (b"", ""),
    ],
)
def test_a_name_becomes_this_path_and_the_path_the_name(name: bytes, path: str) -> None:
    assert paths.encode(name) == path
    assert paths.decode(path) == name


@given(names)
def test_every_name_has_one_path_in_valid_unicode(name: bytes) -> None:
    path = paths.encode(name)
    path.encode()
    assert paths.decode(path) == name
    assert paths.encode(name.decode("utf-8", "surrogateescape")) == path


@given(names, names)
def test_two_names_never_share_a_path(one: bytes, other: bytes) -> None:
    assert (paths.encode(one) == paths.encode(other)) == (one == other)


def test_a_name_as_python_lists_it_has_the_path_of_its_bytes() -> None:
    name = b"a\xc3\xa9\xff"
    assert paths.encode(os.fsdecode(name)) == paths.encode(name)
    assert paths.encode("\udcc3\udca9") == "é"


@pytest.mark.parametrize("path", ["100%", "%4", "%zz.jpg", "a\ud800"])
def test_a_path_that_stands_for_no_name_is_an_error(path: str) -> None:
    with pytest.raises(FormatError, match="path"):
        paths.decode(path)


def test_a_text_that_no_file_can_have_as_its_name_is_an_error() -> None:
    with pytest.raises(FormatError, match="no file can be named"):
        paths.encode("a\ud800b")
