"""Text that no message can have is refused by every method that takes text, with one kind of error."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from datas3t.client import Client, Datas3t, Datas3tError, InvalidArgument

HALF = "a\ud800"
_LOCAL = frozenset(("path", "output", "prefix", "match"))  # names of files may have any bytes
_URL = "http://127.0.0.1:1"  # nothing is sent


def text_parameters() -> Iterator[tuple[type, str, str]]:
    """Yield class, method and parameter of everything that takes text and sends it."""
    for kind in (Client, Datas3t):
        for method, function in inspect.getmembers(kind, inspect.isfunction):
            if method.startswith("_") and method != "__init__":
                continue
            for name, hint in function.__annotations__.items():
                if name not in ("return", "cache_dir", *_LOCAL) and hint in (str, str | None):
                    yield kind, method, name


CASES = [each for each in text_parameters() if each[:2] != (Datas3t, "__init__")]


def arguments(function: Callable[..., Any], wrong: str) -> dict[str, Any]:
    """Return arguments for all parameters without a default, and the wrong one."""
    given: dict[str, Any] = {wrong: HALF}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.default is inspect.Parameter.empty and name not in ("self", wrong):
            given[name] = "text" if function.__annotations__[name] is not int else 1
    return given


@pytest.mark.parametrize(("kind", "method", "name"), CASES, ids=lambda each: getattr(each, "__name__", each))
def test_text_that_is_not_unicode_is_an_invalid_argument(kind: type, method: str, name: str) -> None:
    with Client(_URL) as client:
        owner = client if kind is Client else client.datas3t("photos")
        function = kind if method == "__init__" else getattr(owner, method)
        given = arguments(getattr(kind, method), name)
        with pytest.raises(InvalidArgument) as caught:
            function(**given)
    assert isinstance(caught.value, (Datas3tError, ValueError))
    assert str(caught.value).isascii()
    assert f"{name} is " in str(caught.value)
    assert ("ud800" in str(caught.value)) is not (name.endswith("_key") or name == "token")


def test_the_methods_under_test_are_all_there_are() -> None:
    assert len(CASES) > 20
    assert {kind for kind, _, _ in CASES} == {Client, Datas3t}


def test_the_variable_for_the_url_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAS3T_SERVER_URL", "http://a\udc80")
    with pytest.raises(InvalidArgument, match="DATAS3T_SERVER_URL is"):
        Client()
