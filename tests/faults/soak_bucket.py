"""The end of a soak run: the reaper finishes, and then the bucket must hold exactly what the database names."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import psycopg

from datas3t.archive import checksums, index, names
from datas3t.client import Client
from datas3t.embedded.stack import Services
from tests.support.counters import wrong_counters
from tests.support.stack import wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_INTENTS = ("datarange_uploads", "aggregate_uploads", "checksums_uploads", "table_uploads")


class BrokenGuaranteeError(AssertionError):
    """A guarantee that must always hold was broken."""


def check_bucket(running: Services, url: str, counts: Counter[str]) -> None:
    """Make everything due that would be due in a day, let the reaper run, and compare the bucket with the database."""
    s3 = running.seaweedfs.client()

    # Let the reaper finish. Clearing a datas3t, also an empty one, wakes it up.
    with psycopg.connect(running.db_url, autocommit=True) as conn:
        for table in _INTENTS:
            conn.execute(f"UPDATE {table} SET expires_at = now() - interval '1 day' WHERE state = 'pending'".encode())

        # This includes keys that were claimed by a server that is dead now.
        conn.execute("UPDATE keys_to_delete SET due_at = now(), due_since = now()")

        def settled() -> bool:
            conn.execute(
                "UPDATE keys_to_delete SET due_at = now(), due_since = now(), look_again_at = NULL"
                " WHERE due_at = due_since"  # that is, no server has claimed the key, and no deletion has failed
            )
            pending = "SELECT (SELECT count(*) FROM keys_to_delete) + (SELECT count(*) FROM cleared_catalogues)"
            for table in _INTENTS:
                pending += f" + (SELECT count(*) FROM {table} WHERE state = 'pending')"
            with Client(url) as client:
                client.clear_datas3t("only-wakes-the-reaper")
            return conn.execute(pending.encode()).fetchone() == (0,)

        with Client(url) as client:
            client.add_datas3t("only-wakes-the-reaper", bucket="local")
        wait_until(settled, 120, "the end of the reaper's work")
        if wrong := wrong_counters(conn):
            raise BrokenGuaranteeError(f"the numbers in the row of a datas3t are not those of its dataranges: {wrong}")
        rows = conn.execute("SELECT data_object_key, index_object_key, checksums_etag FROM dataranges").fetchall()
        of_tables = {key for (key,) in conn.execute("SELECT object_key FROM table_files").fetchall()}
    with_checksums = [data_key for data_key, _, etag in rows if etag is not None]
    named = {key for data_key, index_key, _ in rows for key in (data_key, index_key)}
    named |= set(map(names.checksums_key, with_checksums))

    # The bucket must hold the objects of the dataranges, no others, and no multipart upload.
    present = set(_object_keys(s3, running.s3.bucket))
    counts["table files at the end"] = len(of_tables)
    named |= of_tables
    if lost := sorted(named - present):
        raise BrokenGuaranteeError(f"{len(lost)} objects that the database names are missing, the first {lost[0]}")
    if orphans := sorted(present - named):
        raise BrokenGuaranteeError(
            f"{len(orphans)} objects are in the bucket but not in the database, the first {orphans[0]}"
        )
    if uploads := s3.list_multipart_uploads(Bucket=running.s3.bucket).get("Uploads"):
        key = str(uploads[0].get("Key"))
        raise BrokenGuaranteeError(
            f"{len(uploads)} multipart uploads are left, the first of {key}: {_intents_for(running, key)}"
        )
    counts["dataranges at the end"] = len(rows)
    counts["dataranges with checksums at the end"] = len(with_checksums)
    for data_key in with_checksums:
        _check_checksums(s3, running.s3.bucket, data_key)


def _check_checksums(s3: "S3Client", bucket: str, data_key: str) -> None:
    """Compare the checksums of an archive, which are in the bucket, with its contents."""
    body, raw_index, stored = (
        s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        for key in (data_key, names.index_key(data_key), names.checksums_key(data_key))
    )
    contents = [entry.content for entry in index.decode(raw_index)]
    if checksums.of_contents(body, [each.start for each in contents], [each.stop for each in contents]) != stored:
        raise BrokenGuaranteeError(f"the checksums of {data_key} are not those of its contents")


def _intents_for(running: Services, key: str) -> list[tuple[str, str]]:
    """Return state and S3 upload id of each upload and aggregate whose data object has this key."""
    with psycopg.connect(running.db_url) as conn:
        return conn.execute(
            "SELECT state, s3_upload_id FROM datarange_uploads WHERE data_object_key = %(key)s UNION ALL"
            " SELECT state, s3_upload_id FROM aggregate_uploads WHERE data_object_key = %(key)s",
            {"key": key},
        ).fetchall()


def _object_keys(s3: "S3Client", bucket: str) -> Iterator[str]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="datas3t/"):
        yield from (each["Key"] for each in page.get("Contents", ()))
