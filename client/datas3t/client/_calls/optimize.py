"""The call that proposes aggregates."""

from dataclasses import dataclass

from datas3t import v1
from datas3t.client._calls.connection import Connection
from datas3t.client.errors import InvalidArgument

_UINT32, _UINT64 = 2**32 - 1, 2**64 - 1  # the largest values of the contract's integer types


@dataclass(frozen=True, slots=True)
class ProposedAggregate:
    """An aggregate that the server proposes.

    Attributes:
        first: The first key.
        last: The last key.
        dataranges: How many dataranges it merges.
        size: The size of the merged archive, in bytes.
        moved: How many of these bytes go through the client; S3 copies the others.
        objects_saved: How many objects fewer the bucket holds afterwards.
        score: The benefit in relation to the cost (docs/operations.md).
    """

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
    """Return the proposed aggregates, best first; see `Datas3t.plan_aggregates`."""
    # Values that do not fit into the message's fields would raise a ValueError that names no option.
    sizes = ("target_size", target_size, _UINT64), ("max_aggregate_size", max_aggregate_size, _UINT64)
    for option, value, highest in (*sizes, ("max_operations", max_operations, _UINT32)):
        if not 0 <= value <= highest:
            raise InvalidArgument(f"{option} is {value}; it must be 0 to {highest}")
    response = connection.aggregate.PlanAggregates(
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
        for each in response.aggregates
    ]
