"""A planned aggregate that the server has open: how each part is made and where it goes, signed again in time."""

from collections.abc import Sequence

from datas3t import v1
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.renewal import Lifetime, SignedParts


class OpenAggregate:
    """Hands out the parts of the aggregate `id`, 1 to `part_count`."""

    def __init__(self, connection: Connection, aggregate_id: int, part_count: int = 0) -> None:
        self.id = aggregate_id
        self.part_count = part_count
        self._connection = connection
        self._parts = SignedParts(self._sign)
        self._uploaded: list[v1.UploadedPart] = []

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
        aggregate._parts.sign(())
        return aggregate, aggregate._uploaded

    def part(self, number: int, refused: bool = False) -> v1.AggregatePart:
        """Return part `number` with its URLs. `refused`: S3 has refused those returned before."""
        return self._parts.get(number, self.part_count, refused)

    def part_url(self, number: int, refused: bool = False) -> str:
        """Return the URL to PUT the bytes of a part to; `refused` as for `part`."""
        return self.part(number, refused).presigned_url

    def copy_url(self, number: int, refused: bool = False) -> str:
        """Return the URL of the request that has S3 copy a part; `refused` as for `part`."""
        return self.part(number, refused).copy.presigned_url

    def check_open(self) -> None:
        """Raises what the server says where it is over."""
        self._parts.sign(())

    def complete(self, etags: Sequence[str]) -> None:
        """Has the server check the result and put it in its sources' place; parts by their ETags, in order."""
        request = v1.CompleteAggregateRequest(aggregate_upload_id=self.id, upload_ids=etags)
        self._connection.aggregate.CompleteAggregate(request)

    def cancel(self) -> None:
        """Ends the aggregate; what was made is removed."""
        self._connection.aggregate.CancelAggregate(v1.CancelAggregateRequest(aggregate_upload_id=self.id))

    def _sign(self, numbers: Sequence[int]) -> tuple[dict[int, v1.AggregatePart], Lifetime]:
        answer = self._connection.aggregate.SignAggregateParts(
            v1.SignAggregatePartsRequest(aggregate_upload_id=self.id, part_numbers=numbers)
        )
        self.part_count, self._uploaded = answer.part_count, list(answer.uploaded_parts)
        return {part.number: part for part in answer.parts}, Lifetime.until(answer.expires_at)
