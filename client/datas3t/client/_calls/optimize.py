"""Aggregates that are worth their cost: what the server proposes."""

from dataclasses import dataclass

from datas3t import v1
from datas3t.client._calls.connection import Connection
from datas3t.client.errors import InvalidArgument

_UINT32, _UINT64 = 2**32 - 1, 2**64 - 1


@dataclass(frozen=True, slots=True)
class ProposedAggregate:
    """`dataranges` neighbours with the keys `first` to `last`, to become one archive of `size` bytes. The client would
    move `moved` of these, S3 copies the others. `score` is what it brings for what it costs (docs/operations.md)."""

    first: int
    last: int
    dataranges: int
    size: int
    moved: int
    objects_saved: int
    score: float


def plan(
    connection: Connection,
    name: str,
    *,
    min_score: float | None,
    target_size: int,
    max_aggregate_size: int,
    max_operations: int,
) -> list[ProposedAggregate]:
    """As Client.plan_aggregates."""
    sizes = ("target_size", target_size, _UINT64), ("max_aggregate_size", max_aggregate_size, _UINT64)
    for limit, value, most in (*sizes, ("max_operations", max_operations, _UINT32)):
        if not 0 <= value <= most:
            raise InvalidArgument(f"{limit} is {value}; it must be 0 to {most}")
    answer = connection.aggregate.PlanAggregates(
        v1.PlanAggregatesRequest(
            datas3t_name=name,
            min_score=min_score,
            target_size=target_size,
            max_aggregate_size=max_aggregate_size,
            max_operations=max_operations,
        )
    )
    return [
        ProposedAggregate(
            first=each.first_datapoint_index,
            last=each.last_datapoint_index,
            dataranges=each.datarange_count,
            size=each.data_size,
            moved=each.bytes_through_client,
            objects_saved=each.objects_saved,
            score=each.score,
        )
        for each in answer.aggregates
    ]
