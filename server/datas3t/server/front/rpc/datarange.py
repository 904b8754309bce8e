"""DatarangeService: translates messages, and calls the functions that do the work."""

from typing import Any

from datas3t import v1
from datas3t.server import dataranges, downloads, uploads
from datas3t.server.db.listings import JsonPage
from datas3t.server.front.rpc.transfer import timestamp, uploaded_parts
from datas3t.server.resources import Resources
from datas3t.server.uploads import checksums
from datas3t.v1.datarange_pb2_grpc import DatarangeServiceServicer


class DatarangeServicer(DatarangeServiceServicer):
    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def StartUpload(self, request: v1.StartUploadRequest, _: Any) -> v1.StartUploadResponse:
        started = uploads.start(
            self._resources,
            request.datas3t_name,
            request.first_datapoint_index,
            request.number_of_datapoints,
            request.data_size,
            all_urls=request.all_urls,
            reservation_id=request.reservation_id,
            with_checksums=request.with_checksums,
            archive_crc32c=request.archive_crc32c_planned,
        )
        upload = started.upload
        return v1.StartUploadResponse(
            datarange_id=upload.id,
            datarange_upload_id=upload.id,
            object_key=upload.data_object_key,
            first_datapoint_index=upload.first_key,
            use_direct_put=not upload.multipart,
            presigned_data_put_url=started.data_put_url,
            presigned_multipart_upload_urls=started.part_urls,
            presigned_index_put_url=started.index_put_url,
            presigned_checksums_put_url=started.checksums_put_url,
            archive_crc32c_requested=upload.archive_crc32c,
            part_size=upload.part_size,
            expires_at=timestamp(started.expires_at),
        )

    def SignUploadParts(self, request: v1.SignUploadPartsRequest, _: Any) -> v1.SignUploadPartsResponse:
        signed = uploads.sign_parts(
            self._resources,
            request.datarange_upload_id,
            request.part_numbers,
            archive_crc32c_refused=request.archive_crc32c_refused,
        )
        return v1.SignUploadPartsResponse(
            parts=[v1.SignedPart(number=number, presigned_url=url) for number, url in signed.part_urls],
            uploaded_parts=uploaded_parts(signed.uploaded),
            presigned_data_put_url=signed.data_put_url,
            presigned_index_put_url=signed.index_put_url,
            presigned_checksums_put_url=signed.checksums_put_url,
            archive_crc32c_requested=signed.upload.archive_crc32c,
            part_size=signed.upload.part_size,
            expires_at=timestamp(signed.expires_at),
        )

    def CompleteUpload(self, request: v1.CompleteUploadRequest, _: Any) -> v1.CompleteUploadResponse:
        uploads.complete(
            self._resources,
            request.datarange_upload_id,
            request.upload_ids,
            extension=request.extension,
            archive_crc32c=request.archive_crc32c if request.HasField("archive_crc32c") else None,
            table_file_ids=request.table_file_ids,
        )
        return v1.CompleteUploadResponse()

    def CancelUpload(self, request: v1.CancelUploadRequest, _: Any) -> v1.CancelUploadResponse:
        uploads.cancel(self._resources, request.datarange_upload_id)
        return v1.CancelUploadResponse()

    def StartChecksums(self, request: v1.StartChecksumsRequest, _: Any) -> v1.StartChecksumsResponse:
        started = checksums.start(self._resources, request.datas3t_name, request.datarange_id)
        return v1.StartChecksumsResponse(
            checksums_id=started.upload.id,
            object_key=started.upload.checksums_object_key,
            presigned_checksums_put_url=started.put_url,
            expires_at=timestamp(started.expires_at),
        )

    def CompleteChecksums(self, request: v1.CompleteChecksumsRequest, _: Any) -> v1.CompleteChecksumsResponse:
        checksums.complete(self._resources, request.checksums_id, extension=request.extension)
        return v1.CompleteChecksumsResponse()

    def CancelChecksums(self, request: v1.CancelChecksumsRequest, _: Any) -> v1.CancelChecksumsResponse:
        checksums.cancel(self._resources, request.checksums_id)
        return v1.CancelChecksumsResponse()

    def ListDataranges(self, request: v1.ListDatarangesRequest, _: Any) -> v1.ListDatarangesResponse:
        rows, next_token = dataranges.page(self._resources, request.datas3t_name, request.page_size, request.page_token)
        return v1.ListDatarangesResponse(
            dataranges=[
                v1.Datarange(
                    datarange_id=row.id,
                    data_object_key=row.data_object_key,
                    index_object_key=row.index_object_key,
                    min_datapoint_key=row.first_key,
                    max_datapoint_key=row.last_key,
                    size_bytes=row.size_bytes,
                    checksums_object_key=row.checksums_object_key or "",
                    extension=row.extension or "",
                )
                for row in rows
            ],
            next_page_token=next_token,
        )

    def ListDatarangesAsJson(self, request: v1.ListDatarangesRequest, _: Any) -> JsonPage:
        return dataranges.json_page(self._resources, request.datas3t_name, request.page_token)

    def DeleteDatarange(self, request: v1.DeleteDatarangeRequest, _: Any) -> v1.DeleteDatarangeResponse:
        keys = request.first_datapoint_key, request.last_datapoint_key
        dataranges.delete(self._resources, request.datas3t_name, *keys, purge_versions=request.purge_versions)
        return v1.DeleteDatarangeResponse()

    def PresignDownload(self, request: v1.PresignDownloadRequest, _: Any) -> v1.PresignDownloadResponse:
        span = request.first_datapoint, request.last_datapoint
        segments, next_token, expires_at = downloads.presign(
            self._resources, request.datas3t_name, *span, size=request.page_size, token=request.page_token
        )
        return v1.PresignDownloadResponse(
            download_segments=[_download_segment(segment) for segment in segments],
            next_page_token=next_token,
            expires_at=timestamp(expires_at),
        )

    def PresignDataranges(self, request: v1.PresignDatarangesRequest, _: Any) -> v1.PresignDatarangesResponse:
        first = request.first_datapoint if request.HasField("first_datapoint") else None
        last = request.last_datapoint if request.HasField("last_datapoint") else None
        if request.columns:
            page = dataranges.presign_columns(
                self._resources, request.datas3t_name, first, last, size=request.page_size, token=request.page_token
            )
            return v1.PresignDatarangesResponse(
                columns=_columns(page.columns),
                dataranges=[_presigned_datarange(each) for each in page.others],
                next_page_token=page.next_token,
                expires_at=timestamp(page.expires_at),
            )
        signed, next_token, expires_at = dataranges.presign(
            self._resources, request.datas3t_name, first, last, size=request.page_size, token=request.page_token
        )
        return v1.PresignDatarangesResponse(
            dataranges=[_presigned_datarange(each) for each in signed],
            next_page_token=next_token,
            expires_at=timestamp(expires_at),
        )


def _download_segment(segment: downloads.Segment) -> v1.DownloadSegment:
    return v1.DownloadSegment(
        presigned_url=segment.url, range=f"bytes={segment.start}-{segment.stop - 1}", etag=segment.etag
    )


def _presigned_datarange(signed: dataranges.Presigned) -> v1.PresignedDatarange:
    row = signed.datarange
    return v1.PresignedDatarange(
        datarange_id=row.id,
        min_datapoint_key=row.first_key,
        max_datapoint_key=row.last_key,
        size_bytes=row.size_bytes,
        entries_size_bytes=row.entries_size_bytes,
        data_etag=row.data_etag,
        index_etag=row.index_etag,
        presigned_data_url=signed.data_url,
        presigned_index_url=signed.index_url,
        presigned_checksums_url=signed.checksums_url,
        checksums_etag=row.checksums_etag or "",
        extension=row.extension or "",
    )


def _columns(columns: dataranges.Columns) -> v1.DatarangeColumns:
    rows = columns.rows
    has_extensions = any(row.extension for row in rows)
    return v1.DatarangeColumns(
        url_prefix=columns.url_prefix,
        url_query=columns.url_query,
        datarange_ids=[row.id for row in rows],
        first_keys=[row.first_key for row in rows],
        datapoints=[row.count for row in rows],
        counters=columns.counters,
        size_bytes=[row.size_bytes for row in rows],
        entries_size_bytes=[row.entries_size_bytes for row in rows],
        data_etags=[row.data_etag for row in rows],
        index_etags=[row.index_etag for row in rows],
        signatures=b"".join(columns.signatures),
        checksums_etags=[row.checksums_etag or "" for row in rows] if columns.checksums_signatures else (),
        checksums_signatures=b"".join(columns.checksums_signatures),
        extensions=[row.extension or "" for row in rows] if has_extensions else (),
    )
