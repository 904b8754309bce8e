"""Bucket configurations. They are tested with a call to S3 before they are stored; credentials are encrypted."""

import logging
import re
from dataclasses import replace

from datas3t import v1
from datas3t.server import pages, values
from datas3t.server.db import catalogues, keys_to_delete, pool, s3_buckets
from datas3t.server.db.pool import Connection
from datas3t.server.db.s3_buckets import S3Bucket
from datas3t.server.db.spans import BucketVersion
from datas3t.server.errors import Failure
from datas3t.server.resources import Resources
from datas3t.server.s3 import check
from datas3t.server.s3.bucket import Bucket, Location
from datas3t.server.s3.endpoints import normalized

DEFAULT_REGION = "us-east-1"

_CONFIGURATION_SIZE = 512  # bytes, about

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,254}")
_REGION = re.compile(r"[A-Za-z0-9_-]{1,64}")

_log = logging.getLogger(__name__)


def add(
    resources: Resources,
    name: str,
    endpoint: str,
    bucket: str,
    region: str | None,
    access_key: str,
    secret_key: str,
    public_endpoint: str | None = None,
) -> None:
    """Add a configuration. Adding it again with the same settings has no effect.

    The server uses `endpoint`; signed URLs name `public_endpoint`, which is not tried: only clients need to reach it.

    Raises the failures of `check.check`, BUCKET_EXISTS, or INVALID_VALUE.
    """
    values.name("name", name)
    location = Location(
        _endpoint(resources, endpoint, "endpoint"),
        _matching(_BUCKET, "bucket", bucket, "is not a valid name of a bucket"),
        _matching(_REGION, "region", region or DEFAULT_REGION, "is not a valid name of a region"),
        _credential("access_key", access_key),
        _credential("secret_key", secret_key),
        public_endpoint=_endpoint(resources, public_endpoint, "public_endpoint") if public_endpoint else "",
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
    """Return configurations in order of their names, and the token of the next page, which is empty after the last."""
    size = pages.size(size, 1000, 1000)
    with pool.connection(resources.pool) as conn:
        rows = s3_buckets.page(conn, pages.after_name(token), size + 1)
    return rows[:size], rows[size - 1].name if len(rows) > size else ""


def update(resources: Resources, name: str, access_key: str, secret_key: str) -> None:
    """Replace the credentials of a configuration, if the new ones work."""
    row = find(resources, name, "name")
    _check_allowed(resources, row)
    access_key, secret_key = _credential("access_key", access_key), _credential("secret_key", secret_key)
    check.check(Location(row.endpoint, row.bucket, row.region, access_key, secret_key))
    encrypt = resources.cipher.encrypt
    with pool.connection(resources.pool) as conn:
        if not s3_buckets.set_credentials(conn, row.id, encrypt(access_key), encrypt(secret_key)):
            raise _not_found(name)


def delete(resources: Resources, name: str) -> None:
    """Delete a configuration that no datas3t uses and that no deletion needs.

    Raises BUCKET_IN_USE while objects or cancelled multipart uploads are still to be deleted. Objects that were deleted
    and only wait for the second look do not count: the server loses access to the bucket, so an object that a client
    still PUTs with an earlier URL stays there.
    """
    row = find(resources, name, "name")
    with pool.connection(resources.pool) as conn:
        _check_unused(conn, row)
    with pool.transaction(resources.pool, bucket=name) as conn:
        locked = s3_buckets.locked(conn, name)
        if locked is None:
            raise _not_found(name)
        _check_unused(conn, locked)
        _forget_second_looks(conn, locked)  # here alone, so that a refused deletion forgets none
        s3_buckets.delete(conn, locked.id)


def _forget_second_looks(conn: Connection, row: S3Bucket) -> None:
    after: str | None = ""
    while after is not None:
        after = keys_to_delete.forget_second_looks(conn, row.id, after)


def _check_unused(conn: Connection, row: S3Bucket) -> None:
    """Raise BUCKET_IN_USE if a datas3t or a deletion needs the configuration."""
    if s3_buckets.is_used(conn, row.id):
        raise _in_use(f"bucket configuration {row.name!r} is used by a datas3t; delete its datas3ts first", row.name)
    if catalogues.are_in(conn, row.id) or keys_to_delete.has_deletions(conn, row.id):
        message = f"objects in bucket configuration {row.name!r} are still to be deleted; try again later"
        raise _in_use(message, row.name)


def normalize_endpoints(resources: Resources) -> None:
    """Bring the endpoints of all configurations to the spelling that new ones get.

    Earlier servers stored some as they were given. A configuration that then turns out to be a second one of its
    bucket keeps its spelling, as does one whose endpoint would be refused today: a warning names it.
    """
    after = ""
    while True:
        with pool.connection(resources.pool) as conn:
            rows = s3_buckets.page(conn, after, 1000)
        for row in rows:
            _normalize_endpoint(resources, row)
        if not rows:
            return
        after = rows[-1].name


def find(resources: Resources, name: str, field: str) -> S3Bucket:
    """Return the row of a configuration. Raises BUCKET_NOT_FOUND."""
    values.name(field, name)
    with pool.connection(resources.pool) as conn:
        row = s3_buckets.by_name(conn, name)
    if row is None:
        raise _not_found(name)
    return row


def open_bucket(resources: Resources, row: S3Bucket) -> Bucket:
    """Return the bucket in S3, without a call.

    Raises CREDENTIALS_UNREADABLE, or S3_REFUSED if the server's settings do not allow its endpoint.
    """
    _check_allowed(resources, row)
    return resources.s3.at(_location(resources, row))


def at_version(resources: Resources, version: BucketVersion) -> Bucket | None:
    """Return the bucket of a configuration, without a call; None if the configuration was deleted since.

    It is kept until the row of the configuration changes, so its credentials are decrypted once for each version.
    """
    kept = resources.opened_buckets.latest(version.id)
    if kept is not None and kept[0] == version.xmin:
        return kept[1]
    with pool.connection(resources.pool) as conn:
        found = s3_buckets.with_version(conn, version.id)
    if found is None:
        return None
    row, xmin = found
    opened = open_bucket(resources, row)
    resources.opened_buckets.put(version.id, xmin, opened, _CONFIGURATION_SIZE)
    return opened


def _endpoint(resources: Resources, value: str, field: str) -> str:
    """Return the normalized endpoint of a new configuration, if the server's settings allow it."""
    endpoint = normalized(value, field)
    if endpoint not in resources.allowed_endpoints:
        raise values.invalid(field, "is not one of those that this server allows with --allow-endpoints")
    return endpoint


def _check_allowed(resources: Resources, row: S3Bucket) -> None:
    """Raise S3_REFUSED for a configuration whose endpoints the server's settings do not allow any more."""
    for endpoint in (row.endpoint, row.public_endpoint):
        if endpoint and endpoint not in resources.allowed_endpoints:
            message = f"endpoint {endpoint} is not used: this server does not allow it with --allow-endpoints"
            raise Failure(v1.ERROR_REASON_S3_REFUSED, message, endpoint=endpoint)


def _location(resources: Resources, row: S3Bucket) -> Location:
    """Return the location of the bucket, with decrypted credentials."""
    try:
        access_key, secret_key = resources.cipher.decrypt(row.access_key), resources.cipher.decrypt(row.secret_key)
    except ValueError as error:
        raise Failure(
            v1.ERROR_REASON_CREDENTIALS_UNREADABLE,
            f"the credentials of bucket configuration {row.name!r} cannot be decrypted; "
            "start the server with the encryption key with which they were stored, or update the configuration",
            bucket=row.name,
        ) from error
    return Location(row.endpoint, row.bucket, row.region, access_key, secret_key, row.public_endpoint)


def _is_added(resources: Resources, name: str, location: Location) -> bool:
    """Return whether the configuration exists. Raises BUCKET_EXISTS if the name has other settings."""
    with pool.connection(resources.pool) as conn:
        row = s3_buckets.by_name(conn, name)
    if row is None:
        return False
    stored = _location(resources, row)
    if replace(stored, endpoint=_normalized_or_none(row) or row.endpoint) != location:
        raise Failure(
            v1.ERROR_REASON_BUCKET_EXISTS,
            f"bucket configuration {name!r} exists with other settings; use it unchanged, or use another name",
            bucket=name,
        )
    return True


def _normalize_endpoint(resources: Resources, row: S3Bucket) -> None:
    endpoint = _normalized_or_none(row)
    if endpoint is None or endpoint not in resources.allowed_endpoints:
        _log.warning(
            "the endpoint of bucket configuration %r is not allowed any more; add a configuration with another one",
            row.name,
        )
    elif endpoint != row.endpoint:
        try:
            with pool.transaction(resources.pool, bucket=row.name) as conn:
                s3_buckets.set_endpoint(conn, row.id, row.endpoint, endpoint)
        except Failure as failure:
            if failure.reason != v1.ERROR_REASON_BUCKET_EXISTS:
                raise
            _log.warning("bucket configuration %r names a bucket that another one names as well", row.name)


def _normalized_or_none(row: S3Bucket) -> str | None:
    """Return the endpoint of a configuration in the spelling of new ones, or None if it would be refused."""
    try:
        return normalized(row.endpoint)
    except Failure:
        return None


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
            public_endpoint=location.public_endpoint,
        )


def _matching(pattern: re.Pattern[str], field: str, value: str, message: str) -> str:
    """Return the value of a field if it matches the pattern."""
    if not value:
        raise values.missing(field)
    if not pattern.fullmatch(value):
        raise values.invalid(field, message)
    return value


def _credential(field: str, value: str) -> str:
    """Return an access key or a secret key if it is valid."""
    if not value:
        raise values.missing(field)
    if not (0 < len(value) <= 1024 and value.isascii() and value.isprintable() and " " not in value):
        raise values.invalid(field, "must be 1 to 1,024 printable ASCII characters without spaces")
    return value


def _in_use(message: str, name: str) -> Failure:
    return Failure(v1.ERROR_REASON_BUCKET_IN_USE, message, bucket=name)


def _not_found(name: str) -> Failure:
    message = f"there is no bucket configuration {name!r}; add it, or list the existing ones"
    return Failure(v1.ERROR_REASON_BUCKET_NOT_FOUND, message, bucket=name)
