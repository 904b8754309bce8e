"""Bucket configurations: added after a real call has shown that they work, stored with encrypted credentials."""

import re
from urllib.parse import urlsplit

from datas3t import v1
from datas3t.server import values
from datas3t.server.db import keys_to_delete, pool, s3_buckets
from datas3t.server.db.s3_buckets import S3Bucket
from datas3t.server.errors import Failure
from datas3t.server.resources import Resources
from datas3t.server.s3 import check
from datas3t.server.s3.bucket import Bucket, Location

DEFAULT_REGION = "us-east-1"

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,254}")
_REGION = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
_PORTS = {"http": 80, "https": 443}


def add(
    resources: Resources, name: str, endpoint: str, bucket: str, region: str | None, access_key: str, secret_key: str
) -> None:
    """Adds a configuration; with the settings it already has, nothing happens."""
    values.name("name", name)
    location = Location(
        _endpoint(endpoint),
        _matching(_BUCKET, "bucket", bucket, "is not the name of a bucket"),
        _matching(_REGION, "region", region or DEFAULT_REGION, "is not the name of a region"),
        _credential("access_key", access_key),
        _credential("secret_key", secret_key),
    )
    if _is_added(resources, name, location):
        return
    check.check(location)
    try:
        _insert(resources, name, location)
    except Failure as failure:
        if failure.reason != v1.ERROR_REASON_BUCKET_EXISTS or not _is_added(resources, name, location):
            raise


def page(resources: Resources, size: int, token: str) -> tuple[list[S3Bucket], str]:
    """By name; with the token of the next page, empty at the last."""
    size = values.page_size(size, 1000, 1000)
    with pool.connection(resources.pool) as conn:
        rows = s3_buckets.page(conn, values.page_name(token), size + 1)
    return rows[:size], rows[size - 1].name if len(rows) > size else ""


def update(resources: Resources, name: str, access_key: str, secret_key: str) -> None:
    """Gives a configuration new credentials, if they work."""
    row = find(resources, name, "name")
    access_key, secret_key = _credential("access_key", access_key), _credential("secret_key", secret_key)
    check.check(Location(row.endpoint, row.bucket, row.region, access_key, secret_key))
    encrypt = resources.cipher.encrypt
    with pool.connection(resources.pool) as conn:
        if not s3_buckets.set_credentials(conn, row.id, encrypt(access_key), encrypt(secret_key)):
            raise _not_found(name)


def delete(resources: Resources, name: str) -> None:
    """Removes a configuration that no datas3t uses and no deletion waits for.

    Objects that are gone, and only wait for the second look, do not hold it up: whatever a client still PUTs by a URL
    signed before stays in the bucket, which the server has no access to then. Multipart uploads that were cancelled do.
    """
    values.name("name", name)
    with pool.transaction(resources.pool, bucket=name) as conn:
        row = s3_buckets.locked(conn, name)
        if row is None:
            raise _not_found(name)
        if s3_buckets.is_used(conn, row.id):
            raise _in_use(f"bucket configuration {name!r} is used by a datas3t; delete its datas3ts first", name)
        if keys_to_delete.has_deletions(conn, row.id):
            raise _in_use(f"objects in bucket configuration {name!r} are still to be deleted; try again later", name)
        keys_to_delete.forget_second_looks(conn, row.id)
        s3_buckets.delete(conn, row.id)


def find(resources: Resources, name: str, field: str) -> S3Bucket:
    """The row of a configuration; raises BUCKET_NOT_FOUND."""
    values.name(field, name)
    with pool.connection(resources.pool) as conn:
        row = s3_buckets.by_name(conn, name)
    if row is None:
        raise _not_found(name)
    return row


def opened(resources: Resources, row: S3Bucket) -> Bucket:
    """The bucket in S3; raises CREDENTIALS_UNREADABLE. No call is made."""
    return resources.s3.at(_location(resources, row))


def _location(resources: Resources, row: S3Bucket) -> Location:
    try:
        access_key, secret_key = resources.cipher.decrypt(row.access_key), resources.cipher.decrypt(row.secret_key)
    except ValueError as error:
        raise Failure(
            v1.ERROR_REASON_CREDENTIALS_UNREADABLE,
            f"the credentials of bucket configuration {row.name!r} cannot be decrypted; "
            "start the server with the encryption key they were stored with, or update the configuration",
            bucket=row.name,
        ) from error
    return Location(row.endpoint, row.bucket, row.region, access_key, secret_key)


def _is_added(resources: Resources, name: str, location: Location) -> bool:
    """Raises BUCKET_EXISTS where the name has other settings."""
    with pool.connection(resources.pool) as conn:
        row = s3_buckets.by_name(conn, name)
    if row is None:
        return False
    if _location(resources, row) != location:
        raise Failure(
            v1.ERROR_REASON_BUCKET_EXISTS,
            f"bucket configuration {name!r} exists with other settings; use it as it is, or another name",
            bucket=name,
        )
    return True


def _insert(resources: Resources, name: str, location: Location) -> None:
    encrypt = resources.cipher.encrypt
    with pool.transaction(resources.pool, bucket=name) as conn:
        s3_buckets.insert(
            conn,
            name=name,
            endpoint=location.endpoint,
            bucket=location.bucket,
            region=location.region,
            access_key=encrypt(location.access_key),
            secret_key=encrypt(location.secret_key),
        )


def _endpoint(value: str) -> str:
    """Scheme, host and port in one spelling, so that an endpoint is known again."""
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError as error:
        raise values.invalid("endpoint", "is not an address") from error
    scheme = url.scheme.lower()
    if scheme not in _PORTS or "://" not in value:
        raise values.invalid("endpoint", "must begin with its scheme: https:// for TLS, or http://")
    host = f"[{url.hostname}]" if url.hostname and ":" in url.hostname else url.hostname or ""
    if url.username is not None or url.path.strip("/") or url.query or url.fragment or not _HOST.fullmatch(host):
        raise values.invalid("endpoint", "must be scheme, host and port alone, such as https://s3.example.com:9000")
    return f"{scheme}://{host}" if port in (None, _PORTS[scheme]) else f"{scheme}://{host}:{port}"


def _matching(pattern: re.Pattern[str], field: str, value: str, message: str) -> str:
    if not pattern.fullmatch(value):
        raise values.invalid(field, message)
    return value


def _credential(field: str, value: str) -> str:
    if not (0 < len(value) <= 1024 and value.isascii() and value.isprintable() and " " not in value):
        raise values.invalid(field, "must be 1 to 1,024 printable ASCII characters without blanks")
    return value


def _in_use(message: str, name: str) -> Failure:
    return Failure(v1.ERROR_REASON_BUCKET_IN_USE, message, bucket=name)


def _not_found(name: str) -> Failure:
    message = f"there is no bucket configuration {name!r}; add it, or list those there are"
    return Failure(v1.ERROR_REASON_BUCKET_NOT_FOUND, message, bucket=name)
