"""An upload that the server has open: where its archive or parts and its index go, signed again before the URLs end."""

from collections.abc import Sequence

from datas3t import v1
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.renewal import Lifetime, SignedParts


class OpenUpload:
    """Hands out the URLs of the upload `id`. `part_size` in bytes; `direct`: the archive is one PUT, without parts."""

    def __init__(self, connection: Connection, upload_id: int, archive_size: int) -> None:
        self.id = upload_id
        self.part_size = archive_size
        self.direct = True
        self._connection = connection
        self._archive_size = archive_size
        self._parts = SignedParts(self._sign)
        self._data = self._index = ""
        self._uploaded: list[v1.UploadedPart] = []

    @classmethod
    def start(cls, connection: Connection, name: str, first: int, count: int, size: int) -> "OpenUpload":
        """Starts an upload of `count` datapoints from `first` on, in an archive of `size` bytes."""
        answer = connection.datarange.StartUpload(
            v1.StartUploadRequest(
                datas3t_name=name, first_datapoint_index=first, number_of_datapoints=count, data_size=size
            )
        )
        upload = cls(connection, answer.datarange_upload_id, size)
        upload._parts.add(dict(enumerate(answer.presigned_multipart_upload_urls, 1)), upload._keep(answer))
        return upload

    @classmethod
    def again(cls, connection: Connection, upload_id: int, size: int) -> tuple["OpenUpload", list[v1.UploadedPart]]:
        """An upload that was started before, and the parts that S3 already has. Raises FailedPrecondition where it is
        complete or cancelled, NotFound where it never was."""
        upload = cls(connection, upload_id, size)
        upload._parts.sign(())
        return upload, upload._uploaded

    @property
    def part_count(self) -> int:
        """How many parts there are; 0 for a direct upload."""
        return 0 if self.direct else -(-self._archive_size // self.part_size)

    def part(self, number: int) -> range:
        """The bytes of part `number` within the archive."""
        start = (number - 1) * self.part_size
        return range(start, min(start + self.part_size, self._archive_size))

    def part_url(self, number: int, refused: bool = False) -> str:
        """Return the URL to PUT part `number` to. `refused`: S3 has refused the one returned before."""
        return self._parts.get(number, self.part_count, refused)

    def data_url(self, refused: bool = False) -> str:
        """Return the URL to PUT the whole archive of a direct upload to; `refused` as for parts."""
        self._parts.renew_if_over(refused)
        return self._data

    def index_url(self, refused: bool = False) -> str:
        """Return the URL to PUT the index to; `refused` as for parts."""
        self._parts.renew_if_over(refused)
        return self._index

    def complete(self, etags: Sequence[str]) -> None:
        """Has the server check and commit what was uploaded; parts by their ETags, in order."""
        request = v1.CompleteUploadRequest(datarange_upload_id=self.id, upload_ids=etags)
        self._connection.datarange.CompleteUpload(request)

    def cancel(self) -> None:
        """Ends the upload; what was uploaded is removed."""
        self._connection.datarange.CancelUpload(v1.CancelUploadRequest(datarange_upload_id=self.id))

    def _sign(self, numbers: Sequence[int]) -> tuple[dict[int, str], Lifetime]:
        answer = self._connection.datarange.SignUploadParts(
            v1.SignUploadPartsRequest(datarange_upload_id=self.id, part_numbers=numbers)
        )
        self._uploaded = list(answer.uploaded_parts)
        return {part.number: part.presigned_url for part in answer.parts}, self._keep(answer)

    def _keep(self, answer: v1.StartUploadResponse | v1.SignUploadPartsResponse) -> Lifetime:
        """Take over what both answers contain; return the lifetime of their URLs."""
        self._data, self._index = answer.presigned_data_put_url, answer.presigned_index_put_url
        self.part_size, self.direct = answer.part_size, bool(self._data)
        return Lifetime.until(answer.expires_at)
