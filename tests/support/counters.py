"""What the rows of datas3ts say that these contain, compared with the dataranges."""

from collections.abc import Sequence
from typing import Any

import psycopg

_WRONG = """
    SELECT d.name, d.datarange_count, d.datapoint_count, d.checksums_count, d.total_bytes, d.lowest_key, d.highest_key,
           has.*
      FROM datas3ts AS d
     CROSS JOIN LATERAL (
           SELECT count(*) AS dataranges, coalesce(sum(last_key - first_key + 1::numeric), 0) AS datapoints,
                  count(checksums_etag) AS checksums, coalesce(sum(size_bytes), 0) AS bytes,
                  min(first_key) AS lowest, max(last_key) AS highest
             FROM dataranges WHERE catalogue_id = d.catalogue_id) AS has
     WHERE (d.datarange_count, d.datapoint_count, d.checksums_count, d.total_bytes)
           <> (dataranges, datapoints, checksums, bytes)
        OR d.lowest_key IS DISTINCT FROM lowest OR d.highest_key IS DISTINCT FROM highest
"""


def wrong_counters(conn: psycopg.Connection[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
    """Return the datas3ts whose numbers are wrong: their names, the numbers of their rows, and the right ones."""
    return conn.execute(_WRONG).fetchall()
