"""Pages of dataranges: bounded in number, and in bytes, for gRPC's usual limit of a message is 4 MiB."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from datas3t.server.db.dataranges import Datarange

MESSAGE_SIZE = 3 << 20
BESIDE_URLS = 200  # bytes that a datarange takes besides its URLs, at most: numbers, ETags, a range

Item = TypeVar("Item")


def that_fit(items: Iterable[Item], size: Callable[[Item], int], most: int = MESSAGE_SIZE) -> Iterator[Item]:
    """As many as take `most` bytes, but one at least, so that whoever asks for the others comes to an end."""
    left = most
    for number, item in enumerate(items):
        left -= size(item)
        if number and left < 0:
            return
        yield item


def following(rows: Sequence[Datarange], shown: int) -> str:
    """The token of the page behind the first `shown` rows, empty where these are all: the last key, so that no key is
    passed over where an aggregation runs between two pages."""
    return str(rows[shown - 1].last_key) if len(rows) > shown else ""
