"""The sources of an open aggregate, looked up at each step: ids are never used again, so the same ids are the same
archives, and the part plan made of them is the same each time."""

from collections.abc import Sequence

from datas3t import v1
from datas3t.archive import join
from datas3t.archive.join import Part
from datas3t.server.db import dataranges, datas3ts, pool
from datas3t.server.db.aggregate_uploads import Aggregate
from datas3t.server.db.dataranges import Datarange
from datas3t.server.db.datas3ts import Datas3t
from datas3t.server.errors import Failure
from datas3t.server.intents import aggregate_states
from datas3t.server.resources import Resources


def datas3t(resources: Resources, aggregate: Aggregate) -> Datas3t:
    """Raises AGGREGATE_CANCELLED where it was deleted since, which ended its aggregates."""
    with pool.connection(resources.pool) as conn:
        found = datas3ts.by_id(conn, aggregate.datas3t_id)
    if found is None:
        raise aggregate_states.cancelled(aggregate)
    return found


def current(resources: Resources, aggregate: Aggregate) -> list[Datarange] | None:
    """By first key; None where they are not all there any more."""
    with pool.connection(resources.pool) as conn:
        rows = dataranges.overlapping(conn, aggregate.datas3t_id, aggregate.first_key, aggregate.last_key)
    return rows if [row.id for row in rows] == aggregate.source_ids else None


def changed(aggregate: Aggregate) -> Failure:
    """AGGREGATE_SOURCES_CHANGED, which is final."""
    message = "a source was deleted or aggregated meanwhile; list the dataranges and start anew"
    return aggregate_states.final(aggregate, v1.ERROR_REASON_AGGREGATE_SOURCES_CHANGED, message)


def plan(sources: Sequence[Datarange]) -> list[Part]:
    """Who makes which part of the new archive."""
    return join.plan([row.entries_size_bytes for row in sources])
