"""The dataranges of a datas3t as columns of numbers: 32 bytes for each, so that a million of them fit in memory.

What is computed from them takes some 300 bytes for each, so only a few calls have many of them at a time.
"""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from datas3t import v1
from datas3t.server.call import current
from datas3t.server.db import pool
from datas3t.server.db.catalogues import CURRENT
from datas3t.server.db.pool import Connection, Pool
from datas3t.server.errors import Failure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PAGE_ROWS = 50_000  # 1.6 MB


@dataclass(frozen=True, slots=True)
class Columns:
    """Dataranges in key order, which do not overlap. Sizes are in bytes."""

    bounds: "NDArray[np.int64]"  # a row with the first and the last key for each
    sizes: "NDArray[np.int64]"
    entries_sizes: "NDArray[np.int64]"


class _Places:
    """Places of calls that have more dataranges than a page in memory.

    Args:
        count: How many there are.
        waiting: How many calls wait for one at most, each with a thread; further ones are refused.
    """

    def __init__(self, count: int, waiting: int) -> None:
        self._free = count
        self._waiting = 0
        self._max_waiting = waiting
        self._changed = threading.Condition()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Have a place during the block.

        Raises:
            Failure: SERVER_BUSY if too many calls wait already, or the cause if the call is ended while it waits.
        """
        with self._changed:
            if not self._free:
                self._wait()
            self._free -= 1
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()

    def _wait(self) -> None:
        if self._waiting >= self._max_waiting:
            raise Failure(v1.ERROR_REASON_SERVER_BUSY, "too many calls compute merges already; try again shortly")
        call = current()
        self._waiting += 1
        call.release_slot()
        try:
            with call.interruptible(self._wake):
                while not self._free:
                    call.raise_if_ended()
                    self._changed.wait(call.remaining())
        finally:
            call.take_slot()
            self._waiting -= 1

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


_PLACES = _Places(2, 16)


@contextmanager
def loaded(pool_: Pool, datas3t_id: int) -> Iterator[Columns]:
    """Yield the columns of a datas3t, which are read page by page, each in a statement of its own.

    Dataranges that are aggregated between two pages are left out. If there is more than one page, few calls are in such
    a block at a time, and others wait.
    """
    with ExitStack() as places:
        yield _load(pool_, datas3t_id, places)


def _load(pool_: Pool, datas3t_id: int, places: ExitStack) -> Columns:
    import numpy as np  # noqa: PLC0415 - importing it takes 0.2 s, which other calls do not need

    pages = [np.empty((0, 4), np.int64)]
    after = -1
    while True:
        current().raise_if_ended()
        with pool.connection(pool_) as conn:
            packed = _page(conn, datas3t_id, after, _PAGE_ROWS)
        rows = np.frombuffer(packed, ">i8").astype(np.int64).reshape(-1, 4)
        pages.append(rows)
        if len(rows) < _PAGE_ROWS:
            break
        if after < 0:
            places.enter_context(_PLACES.taken())
        after = int(rows[-1, 1])
    rows = np.concatenate(pages)
    if len(rows):  # a datarange that begins before another one ends has replaced it between two pages
        least_following = np.minimum.accumulate(rows[::-1, 0])[::-1]
        rows = rows[np.append(rows[:-1, 1] < least_following[1:], True)]
    return Columns(rows[:, :2], rows[:, 2], rows[:, 3])


_PAGE: LiteralString = f"""
    SELECT string_agg(int8send(first_key) || int8send(last_key) || int8send(size_bytes) || int8send(entries_size_bytes),
                      ''::bytea ORDER BY last_key)
      FROM (SELECT first_key, last_key, size_bytes, entries_size_bytes FROM dataranges
             WHERE catalogue_id = {CURRENT} AND last_key > (SELECT %(after)s::bigint)
             ORDER BY last_key LIMIT %(limit)s) AS page
"""


def _page(conn: Connection, datas3t_id: int, after: int, limit: int) -> bytes:
    """Return four big-endian numbers of 8 bytes for each of up to `limit` dataranges after the last key `after`."""
    row = conn.execute(_PAGE, {"datas3t_id": datas3t_id, "after": after, "limit": limit}, binary=True).fetchone()
    assert row is not None
    return row[0] or b""
