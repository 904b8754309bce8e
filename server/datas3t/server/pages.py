"""Pages of listings: their limits in rows and bytes, and the tokens for the next page."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

from datas3t import v1
from datas3t.archive.names import MAX_KEY
from datas3t.server import values
from datas3t.server.errors import Failure

MAX_BYTES = 3 << 20  # of the items of a page, because by default gRPC accepts messages of at most 4 MiB
OTHER_FIELDS = 200  # the maximum size of an item's fields other than URLs: numbers, ETags, a range

# The catalogue that the earlier pages are from, and the last key on them. Earlier servers gave the key alone.
_KEY_TOKEN = re.compile(r"(?:([0-9]{1,19})\.)?([0-9]{1,19})")

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


class Start(NamedTuple):
    """The key after which a page of dataranges starts, and the catalogue of the earlier pages, if the token has it."""

    after: int
    catalogue_id: int | None

    def check(self, name: str, catalogue_id: int) -> None:
        """Raise LISTING_CHANGED if the datas3t of this name has another catalogue than on the earlier pages."""
        if self.catalogue_id not in {None, catalogue_id}:
            message = f"datas3t {name!r} was cleared while its dataranges were listed; list them again"
            raise Failure(v1.ERROR_REASON_LISTING_CHANGED, message, datas3t=name)


def start(token: str) -> Start:
    """Return where a page of dataranges starts. An empty token requests the first page, after key -1."""
    if not token:
        return Start(-1, None)
    found = _KEY_TOKEN.fullmatch(token)
    if found is None or int(found[2]) > MAX_KEY:
        raise values.invalid("page_token", "is not the next_page_token of an earlier page")
    return Start(int(found[2]), None if found[1] is None else int(found[1]))


def next_token(catalogue_id: int, rows: Sequence[Row], shown: int) -> str:
    """Return the token of the page after the first `shown` rows, or an empty one if there are no more rows.

    It has the last key shown, so that no key is left out if an aggregate is made between two pages.
    """
    return token_after(catalogue_id, rows[shown - 1].last_key) if len(rows) > shown else ""


def token_after(catalogue_id: int, key: int | str) -> str:
    """Return the token of the page after a key of a catalogue."""
    return f"{catalogue_id}.{key}"


def fitting(items: Iterable[Item], size_of: Callable[[Item], int], most: int = MAX_BYTES) -> Iterator[Item]:
    """Yield items until they have `most` bytes, but at least one, so that every page makes progress."""
    left = most
    for number, item in enumerate(items):
        left -= size_of(item)
        if number and left < 0:
            return
        yield item
