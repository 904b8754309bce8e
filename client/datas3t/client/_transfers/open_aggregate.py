"""An aggregate that the server has open: how each part is made, and the presigned URLs for that."""

from collections.abc import Sequence

from datas3t import v1
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.renewal import Lifetime, SignedParts


class OpenAggregate:
    """The aggregate with the server's id `id`, and its parts 1 to `part_count`, signed again when needed."""

    table_file_ids: tuple[int, ...] = ()  # of tables' files that are committed with it

    def __init__(self, connection: Connection, aggregate_id: int, part_count: int = 0) -> None:
        self.id = aggregate_id
        self.part_count = part_count
        self._connection = connection
        self._parts = SignedParts(self._sign)

    @classmethod
    def start(cls, connection: Connection, name: str, first: int, last: int) -> "OpenAggregate":
        """Start an aggregate of the dataranges from key `first` to key `last`."""
        response = connection.aggregate.StartAggregate(
            v1.StartAggregateRequest(
                datas3t_name=name, first_datapoint_index=first, last_datapoint_index=last, plan=True
            )
        )
        return cls(connection, response.aggregate_upload_id, response.part_count)

    def uploaded_parts(self) -> list[v1.UploadedPart]:
        """Return the parts that S3 already has.

        Raises:
            NotFound: The server does not know the aggregate.
            FailedPrecondition: It is complete or cancelled.
            Aborted: Its sources changed.
        """
        response = self._call_sign(())
        self.part_count = response.part_count
        return list(response.uploaded_parts)

    def part(self, number: int, refused: bool = False) -> v1.AggregatePart:
        """Return part `number` with its URLs. `refused`: S3 has refused those returned before."""
        return self._parts.get(number, self.part_count, refused)

    def part_url(self, number: int, refused: bool = False) -> str:
        """Return the URL to PUT the bytes of a part to. `refused` has the meaning that it has for `part`."""
        return self.part(number, refused).presigned_url

    def copy_url(self, number: int, refused: bool = False) -> str:
        """Return the URL of the request that has S3 copy a part. `refused` has the meaning that it has for `part`."""
        return self.part(number, refused).copy.presigned_url

    def check_open(self) -> None:
        """Raise the server's error if the aggregate is not open any more, as `uploaded_parts` does."""
        self._call_sign(())

    def complete(self, etags: Sequence[str]) -> None:
        """Have the server check the result and replace the sources by it, given the ETags of all parts in order."""
        request = v1.CompleteAggregateRequest(aggregate_upload_id=self.id, upload_ids=etags)
        self._connection.aggregate.CompleteAggregate(request)

    def cancel(self) -> None:
        """End the aggregate; the server deletes the parts."""
        self._connection.aggregate.CancelAggregate(v1.CancelAggregateRequest(aggregate_upload_id=self.id))

    def _sign(self, numbers: Sequence[int]) -> tuple[dict[int, v1.AggregatePart], Lifetime]:
        response = self._call_sign(numbers)
        return {part.number: part for part in response.parts}, Lifetime.until(response.expires_at)

    def _call_sign(self, numbers: Sequence[int]) -> v1.SignAggregatePartsResponse:
        request = v1.SignAggregatePartsRequest(aggregate_upload_id=self.id, part_numbers=numbers)
        return self._connection.aggregate.SignAggregateParts(request)
