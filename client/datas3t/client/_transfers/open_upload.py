"""An upload that the server has open: its parts, and the presigned URLs of its objects."""

from collections.abc import Sequence
from typing import Self

from datas3t import v1
from datas3t.client._calls import tables
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.renewal import Lifetime, SignedParts

_MAX_EXTENSION = 255  # characters that the server takes


def to_tell(extension: str) -> str:
    """Return the extension that all entries have as the server is told it; empty if it cannot be told."""
    # Surrogates, which stand for other bytes than UTF-8, are not printable.
    return extension if len(extension) <= _MAX_EXTENSION and extension.isprintable() else ""


class OpenUpload:
    """The upload with the server's id `id`, and its URLs, which are renewed when needed.

    Attributes:
        id: The server's id.
        part_size: The size of every part but the last, in bytes.
        direct: Whether the archive is sent with one PUT instead of in parts.
        crc_requested: Whether S3 was asked to compute the CRC-32C of the whole archive.
        extension: The extension that all entries have; empty if they have different ones. Told at completion.
        crc: The CRC-32C of the whole archive; None if it is not known. Told at completion.
        table_file_ids: Files of tables that are committed together with the archive.
    """

    extension = ""
    crc: int | None = None
    table_file_ids: tuple[int, ...] = ()

    def __init__(self, connection: Connection, upload_id: int, archive_size: int) -> None:
        self.id = upload_id
        self.part_size = archive_size
        self.direct = True
        self.crc_requested = False
        self._connection = connection
        self._archive_size = archive_size
        self._parts = SignedParts(self._sign)
        self._data_url = self._index_url = self._checksums_url = ""

    @classmethod
    def start(
        cls, connection: Connection, name: str, first: int, count: int, size: int, reservation_id: int = 0
    ) -> Self:
        """Start an upload of `count` datapoints from key `first` on, in an archive of `size` bytes, with checksums.

        The CRC of the archive is told at completion. `reservation_id`: that of its keys; 0 without one.
        """
        response = connection.datarange.StartUpload(
            v1.StartUploadRequest(
                datas3t_name=name,
                first_datapoint_index=first,
                number_of_datapoints=count,
                data_size=size,
                with_checksums=True,
                archive_crc32c_planned=True,
                reservation_id=reservation_id,
            )
        )
        upload = cls(connection, response.datarange_upload_id, size)
        part_urls = dict(enumerate(response.presigned_multipart_upload_urls, 1))
        upload._parts.add(part_urls, upload._update(response))
        return upload

    def uploaded_parts(self) -> list[v1.UploadedPart]:
        """Return the parts that S3 already has.

        Raises:
            FailedPrecondition: The upload is complete or cancelled.
            NotFound: The server does not know it.
        """
        response = self._call_sign(())
        self._parts.add({}, self._update(response))
        return list(response.uploaded_parts)

    def open_without_crc(self) -> None:
        """Have S3 not compute the CRC of the archive, because it refuses parts for that. All parts are lost.

        Raises:
            Datas3tError: See `uploaded_parts`.
        """
        response = self._call_sign((), crc_refused=True)
        self._parts = SignedParts(self._sign)
        self._parts.add({}, self._update(response))

    @property
    def has_checksums(self) -> bool:
        """Whether checksums are sent as well. A server that does not know them has no URL for them."""
        return bool(self._checksums_url)

    @property
    def part_count(self) -> int:
        """The number of parts; 0 for a direct upload."""
        return 0 if self.direct else -(-self._archive_size // self.part_size)

    def part(self, number: int) -> range:
        """Return the bytes of part `number` within the archive."""
        start = (number - 1) * self.part_size
        return range(start, min(start + self.part_size, self._archive_size))

    def part_url(self, number: int, refused: bool = False) -> str:
        """Return the URL to PUT part `number` to. `refused`: S3 has refused the one returned before."""
        return self._parts.get(number, self.part_count, refused)

    def data_url(self, refused: bool = False) -> str:
        """Return the URL to PUT the whole archive of a direct upload to; `refused` as for parts."""
        self._parts.renew_if_over(refused)
        return self._data_url

    def index_url(self, refused: bool = False) -> str:
        """Return the URL to PUT the index to; `refused` as for parts."""
        self._parts.renew_if_over(refused)
        return self._index_url

    def checksums_url(self, refused: bool = False) -> str:
        """Return the URL to PUT the checksums to; `refused` as for parts."""
        self._parts.renew_if_over(refused)
        return self._checksums_url

    def complete(self, etags: Sequence[str]) -> None:
        """Have the server check and commit what was uploaded, given the ETags of all parts in order."""
        request = v1.CompleteUploadRequest(
            datarange_upload_id=self.id,
            upload_ids=etags,
            extension=self.extension,
            archive_crc32c=self.crc,
            table_file_ids=self.table_file_ids,
        )
        self._connection.datarange.CompleteUpload(request)

    def cancel(self) -> None:
        """End the upload; the server deletes what was uploaded."""
        self._connection.datarange.CancelUpload(v1.CancelUploadRequest(datarange_upload_id=self.id))
        for each in self.table_file_ids:
            tables.cancel(self._connection, each)

    def _sign(self, numbers: Sequence[int]) -> tuple[dict[int, str], Lifetime]:
        response = self._call_sign(numbers)
        return {part.number: part.presigned_url for part in response.parts}, self._update(response)

    def _call_sign(self, numbers: Sequence[int], *, crc_refused: bool = False) -> v1.SignUploadPartsResponse:
        request = v1.SignUploadPartsRequest(
            datarange_upload_id=self.id, part_numbers=numbers, archive_crc32c_refused=crc_refused
        )
        return self._connection.datarange.SignUploadParts(request)

    def _update(self, response: v1.StartUploadResponse | v1.SignUploadPartsResponse) -> Lifetime:
        """Take over the fields that both responses have, and return the lifetime of the URLs in them."""
        self._data_url, self._index_url = response.presigned_data_put_url, response.presigned_index_put_url
        self._checksums_url = response.presigned_checksums_put_url
        self.crc_requested = response.archive_crc32c_requested
        self.part_size, self.direct = response.part_size, bool(self._data_url)
        return Lifetime.until(response.expires_at)
