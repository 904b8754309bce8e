"""The dataranges of a datas3t as columns of numbers: 32 bytes for each, so that a million of them fit in memory."""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from datas3t.server.call import current
from datas3t.server.db import pool
from datas3t.server.db.catalogues import CURRENT
from datas3t.server.db.pool import Connection, Pool

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


def load(pool_: Pool, datas3t_id: int) -> Columns:
    """Return the columns of a datas3t, which are read page by page, each in a statement of its own.

    Dataranges that are aggregated between two pages are left out.
    """
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
