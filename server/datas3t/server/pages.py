"""Pages of listings: their limits in rows and bytes, and the tokens for the next page."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from datas3t.archive.names import MAX_KEY
from datas3t.server import values

MAX_BYTES = 3 << 20  # of the items of a page, because by default gRPC accepts messages of at most 4 MiB
OTHER_FIELDS = 200  # the maximum size of an item's fields other than URLs: numbers, ETags, a range

Item = TypeVar("Item")


class Row(Protocol):
    """A datarange, or what a listing shows of it."""

    @property
    def last_key(self) -> int: ...


def size(requested: int, most: int, default: int) -> int:
    """Return the number of rows of a page. 0 requests the default."""
    if not 0 <= requested <= most:
        raise values.invalid("page_size", f"is {requested}, but a page has 1 to {most}")
    return requested or default


def after_name(token: str) -> str:
    """Return the name after which a page starts. An empty token requests the first page."""
    return values.name("page_token", token) if token else ""


def after_key(token: str) -> int:
    """Return the key after which a page starts. An empty token requests the first page, after key -1."""
    if not token:
        return -1
    if not (token.isascii() and token.isdigit() and len(token) < 20 and int(token) <= MAX_KEY):
        raise values.invalid("page_token", "is not the next_page_token of an earlier page")
    return int(token)


def next_token(rows: Sequence[Row], shown: int) -> str:
    """Return the token of the page after the first `shown` rows, or an empty one if there are no more rows.

    It is the last key shown, so that no key is left out if an aggregate is made between two pages.
    """
    return str(rows[shown - 1].last_key) if len(rows) > shown else ""


def fitting(items: Iterable[Item], size_of: Callable[[Item], int], most: int = MAX_BYTES) -> Iterator[Item]:
    """Yield items until they have `most` bytes, but at least one, so that every page makes progress."""
    left = most
    for number, item in enumerate(items):
        left -= size_of(item)
        if number and left < 0:
            return
        yield item
