"""The upload of an archive whose keys are reserved."""

from datas3t import v1
from datas3t.archive.layout import Layout
from datas3t.client._calls.connection import Connection
from datas3t.client._transfers.open_upload import OpenUpload


class OpenPush(OpenUpload):
    """An upload that the server has open; see OpenUpload."""

    extension = ""
    table_file_ids: tuple[int, ...] = ()

    @classmethod
    def start_reserved(cls, connection: Connection, name: str, layout: Layout, reservation_id: int) -> "OpenPush":
        """Start the upload of an archive."""
        response = connection.datarange.StartUpload(
            v1.StartUploadRequest(
                datas3t_name=name,
                first_datapoint_index=layout.first,
                number_of_datapoints=len(layout),
                data_size=layout.size,
                reservation_id=reservation_id,
            )
        )
        upload = cls(connection, response.datarange_upload_id, layout.size)
        part_urls = dict(enumerate(response.presigned_multipart_upload_urls, 1))
        upload._parts.add(part_urls, upload._update(response))
        return upload
