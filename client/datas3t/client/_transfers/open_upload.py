"""An upload that the server has open: where its archive or parts and its index go, signed again before the URLs end."""

import time
from collections.abc import Sequence

from datas3t import v1
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.renewal import stale_at

_AT_ONCE = 1000  # parts that the server signs in one call
_YOUNG = 1.0  # seconds: parts under way at once end at once, and one signing renews them all


class OpenUpload:
    """Hands out the URLs of the upload `id`. `part_size` in bytes; `direct`: the archive is one PUT, without parts."""

    def __init__(self, connection: Connection, upload_id: int, archive_size: int) -> None:
        self.id = upload_id
        self.part_size = archive_size
        self.direct = True
        self._connection = connection
        self._archive_size = archive_size
        self._parts: dict[int, str] = {}
        self._data = self._index = ""
        self._stale_at = self._signed_at = 0.0

    @classmethod
    def start(cls, connection: Connection, name: str, first: int, count: int, size: int) -> "OpenUpload":
        """Starts an upload of `count` datapoints from `first` on, in an archive of `size` bytes."""
        answer = connection.datarange.StartUpload(
            v1.StartUploadRequest(
                datas3t_name=name, first_datapoint_index=first, number_of_datapoints=count, data_size=size
            )
        )
        upload = cls(connection, answer.datarange_upload_id, size)
        upload._signed(answer)
        upload._parts = dict(enumerate(answer.presigned_multipart_upload_urls, 1))
        return upload

    @classmethod
    def again(cls, connection: Connection, upload_id: int, size: int) -> tuple["OpenUpload", list[v1.UploadedPart]]:
        """An upload that was started before, and the parts that S3 already has. Raises FailedPrecondition where it is
        complete or cancelled, NotFound where it never was."""
        upload = cls(connection, upload_id, size)
        return upload, list(upload._sign(()).uploaded_parts)

    @property
    def part_count(self) -> int:
        """How many parts there are; 0 for a direct upload."""
        return 0 if self.direct else -(-self._archive_size // self.part_size)

    def part(self, number: int) -> range:
        """The bytes of part `number` within the archive."""
        start = (number - 1) * self.part_size
        return range(start, min(start + self.part_size, self._archive_size))

    def part_url(self, number: int, expired: bool = False) -> str:
        """Takes part `number`; signed together with those behind it where it is not yet, or no longer.

        `expired`: S3 has refused the one that was handed out before.
        """
        if self._ends(expired) or number not in self._parts:
            wanted = range(number, min(number + _AT_ONCE, self.part_count + 1))
            self._parts |= {part.number: part.presigned_url for part in self._sign(wanted).parts}
        return self._parts[number]

    def data_url(self, expired: bool = False) -> str:
        """Takes the whole archive of a direct upload."""
        if self._ends(expired):
            self._sign(())
        return self._data

    def index_url(self, expired: bool = False) -> str:
        """Takes the index."""
        if self._ends(expired):
            self._sign(())
        return self._index

    def complete(self, etags: Sequence[str]) -> None:
        """Has the server check and commit what was uploaded; parts by their ETags, in order."""
        request = v1.CompleteUploadRequest(datarange_upload_id=self.id, upload_ids=etags)
        self._connection.datarange.CompleteUpload(request)

    def cancel(self) -> None:
        """Ends the upload; what was uploaded is removed."""
        self._connection.datarange.CancelUpload(v1.CancelUploadRequest(datarange_upload_id=self.id))

    def _ends(self, expired: bool) -> bool:
        if expired and time.monotonic() - self._signed_at > _YOUNG:
            self._stale_at = 0.0
        return time.time() >= self._stale_at

    def _sign(self, numbers: Sequence[int]) -> v1.SignUploadPartsResponse:
        if self._ends(expired=False):
            self._parts.clear()
        answer = self._connection.datarange.SignUploadParts(
            v1.SignUploadPartsRequest(datarange_upload_id=self.id, part_numbers=numbers)
        )
        self._signed(answer)
        return answer

    def _signed(self, answer: v1.StartUploadResponse | v1.SignUploadPartsResponse) -> None:
        self._data, self._index = answer.presigned_data_put_url, answer.presigned_index_put_url
        self.part_size, self.direct = answer.part_size, bool(self._data)
        self._stale_at, self._signed_at = stale_at(answer.expires_at), time.monotonic()
