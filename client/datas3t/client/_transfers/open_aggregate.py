"""A planned aggregate that the server has open: how each part is made and where it goes, signed again in time."""

import time
from collections.abc import Sequence

from datas3t import v1
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.renewal import stale_at

_AT_ONCE = 1000  # parts that the server signs in one call
_HELD = 2000  # parts that are remembered
_YOUNG = 1.0  # seconds: parts under way at once end at once, and one signing renews them all


class OpenAggregate:
    """Hands out the parts of the aggregate `id`, 1 to `part_count`."""

    def __init__(self, connection: Connection, aggregate_id: int, part_count: int = 0) -> None:
        self.id = aggregate_id
        self.part_count = part_count
        self._connection = connection
        self._parts: dict[int, v1.AggregatePart] = {}
        self._stale_at = self._signed_at = 0.0

    @classmethod
    def start(cls, connection: Connection, name: str, first: int, last: int) -> "OpenAggregate":
        """Starts an aggregate of the dataranges from `first` to `last`."""
        answer = connection.aggregate.StartAggregate(
            v1.StartAggregateRequest(
                datas3t_name=name, first_datapoint_index=first, last_datapoint_index=last, plan=True
            )
        )
        return cls(connection, answer.aggregate_upload_id, answer.part_count)

    @classmethod
    def again(cls, connection: Connection, aggregate_id: int) -> tuple["OpenAggregate", list[v1.UploadedPart]]:
        """An aggregate that was started before, and the parts that S3 already has. Raises NotFound where it never was,
        FailedPrecondition or Aborted where it is over."""
        aggregate = cls(connection, aggregate_id)
        answer = aggregate._sign(())
        aggregate.part_count = answer.part_count
        return aggregate, list(answer.uploaded_parts)

    def part(self, number: int, expired: bool = False) -> v1.AggregatePart:
        """One part, signed together with those behind it where it is not yet, or no longer.

        `expired`: S3 has refused the URLs that were handed out before.
        """
        if expired and time.monotonic() - self._signed_at > _YOUNG:
            self._stale_at = 0.0
        if time.time() >= self._stale_at or number not in self._parts:
            self._sign(range(number, min(number + _AT_ONCE, self.part_count + 1)))
        return self._parts[number]

    def part_url(self, number: int, expired: bool = False) -> str:
        """Takes the bytes of a part."""
        return self.part(number, expired).presigned_url

    def copy_url(self, number: int, expired: bool = False) -> str:
        """Has S3 copy a part."""
        return self.part(number, expired).copy.presigned_url

    def check_open(self) -> None:
        """Raises what the server says where it is over."""
        self._sign(())

    def complete(self, etags: Sequence[str]) -> None:
        """Has the server check the result and put it in its sources' place; parts by their ETags, in order."""
        request = v1.CompleteAggregateRequest(aggregate_upload_id=self.id, upload_ids=etags)
        self._connection.aggregate.CompleteAggregate(request)

    def cancel(self) -> None:
        """Ends the aggregate; what was made is removed."""
        self._connection.aggregate.CancelAggregate(v1.CancelAggregateRequest(aggregate_upload_id=self.id))

    def _sign(self, numbers: Sequence[int]) -> v1.SignAggregatePartsResponse:
        if time.time() >= self._stale_at or len(self._parts) > _HELD:
            self._parts.clear()
        answer = self._connection.aggregate.SignAggregateParts(
            v1.SignAggregatePartsRequest(aggregate_upload_id=self.id, part_numbers=numbers)
        )
        if not self._parts:  # else those held before end earlier
            self._stale_at = stale_at(answer.expires_at)
        self._signed_at = time.monotonic()
        self._parts |= {part.number: part for part in answer.parts}
        return answer
