"""Validation of the values in requests, before they reach the database or S3. Errors name the field."""

from collections.abc import Sequence

from datas3t import v1
from datas3t.archive.names import MAX_KEY, valid_name
from datas3t.archive.parts import MAX_OBJECT, MAX_PARTS
from datas3t.server.errors import Failure

MAX_PUT = 5 << 30  # bytes: S3's limit of one PUT
MAX_TABLE_FILES = 100  # that are completed with one archive

_MIN_PARQUET = 12  # bytes: twice the magic, and the size of the footer
_MAX_REPLACED = 10_000  # table files
_MAX_REQUEST_ID = 255  # characters
_MAX_ETAG = 1024  # characters; those of S3 have 32 to 38
MAX_EXTENSION = 255  # characters that a row stores


def invalid(field: str, message: str) -> Failure:
    """Return INVALID_VALUE. The message begins with the name of the field."""
    return Failure(v1.ERROR_REASON_INVALID_VALUE, f"{field} {message}", field=field)


def missing(field: str) -> Failure:
    """Return INVALID_VALUE for a text that is not given, which is the same as an empty one."""
    return invalid(field, "is missing; add it")


def name(field: str, value: str) -> str:
    """Return the name of a bucket configuration or a datas3t if it is valid."""
    if not value:
        raise missing(field)
    if not valid_name(value):
        raise invalid(field, "must be 1 to 255 letters, digits, - or _")
    return value


def key(field: str, value: int) -> int:
    """Return the key of a datapoint if it is 0 to 2^63-1."""
    if not 0 <= value <= MAX_KEY:
        raise invalid(field, f"is {value}, but keys are 0 to {MAX_KEY}")
    return value


def span(first_field: str, first: int, last_field: str, last: int) -> tuple[int, int]:
    """Return the first and the last key of a span, both inclusive, if they are valid and in order."""
    key(first_field, first)
    key(last_field, last)
    if first > last:
        raise invalid(last_field, f"is {last}, which is less than {first_field}, {first}")
    return first, last


def count(field: str, value: int, first: int) -> int:
    """Return the last key of `value` datapoints that start at `first`, if the count is valid."""
    if value < 1:
        raise invalid(field, "must be at least 1")
    last = first + value - 1
    if last > MAX_KEY:
        raise invalid(field, f"is {value}, so the last key would be {last}, but keys are 0 to {MAX_KEY}")
    return last


def request_id(field: str, value: str) -> str:
    """Return what a caller names a request by, if it has 1 to 255 characters that can be stored."""
    if not value:
        raise missing(field)
    if len(value) > _MAX_REQUEST_ID or "\0" in value:
        raise invalid(field, f"must be 1 to {_MAX_REQUEST_ID} characters, none of them NUL")
    return value


def archive_size(field: str, value: int) -> int:
    """Return the size of an archive in bytes, if it is not above S3's limit of 5 TiB."""
    if not 1 <= value <= MAX_OBJECT:
        raise invalid(field, f"is {value}, but an archive has 1 to {MAX_OBJECT} bytes")
    return value


def table_file_size(field: str, value: int) -> int:
    """Return the size of a table file in bytes, if one PUT can send it, and if it is not below the least of Parquet."""
    if value > MAX_PUT:
        raise invalid(
            field, f"is {value}, but a table file has at most {MAX_PUT} bytes; write the table as several files"
        )
    if value < _MIN_PARQUET:
        raise invalid(field, f"is {value}, but a Parquet file has at least {_MIN_PARQUET} bytes")
    return value


def table_file_ids(field: str, given: Sequence[int], most: int = MAX_TABLE_FILES) -> Sequence[int]:
    """Return the ids of table files, if there are not too many, and none twice."""
    if len(given) > most:
        raise invalid(field, f"has {len(given)} ids, but at most {most} are allowed")
    if len(set(given)) < len(given):
        raise invalid(field, "has an id twice; give each once")
    return given


def replaced_ids(field: str, given: Sequence[int]) -> Sequence[int]:
    """Return the ids of table files that are to be replaced, if they are valid."""
    for each in table_file_ids(field, given, _MAX_REPLACED):
        if not 0 < each <= MAX_KEY:
            raise invalid(field, f"has {each}, which is not the id of a file")
    return given


def etags(field: str, given: Sequence[str]) -> list[str]:
    """Return the ETags of an archive's parts without the quotes and the mark of a weak one that they may have."""
    if len(given) > MAX_PARTS:
        raise invalid(field, f"has {len(given)} ETags, but an archive has at most {MAX_PARTS} parts")
    if any(len(etag) > _MAX_ETAG for etag in given):
        raise invalid(field, f"has an ETag of more than {_MAX_ETAG} characters; send the ETags that S3 returned")
    return [etag.strip().removeprefix("W/").strip('"') for etag in given]


def extension(field: str, value: str) -> str | None:
    """Return an extension if it is one that the name of an entry may have; None for an empty one."""
    if "/" in value or "\0" in value:
        raise invalid(field, "has a / or a NUL, which no entry has in its name")
    if len(value) > MAX_EXTENSION:
        raise invalid(field, f"has more than {MAX_EXTENSION} characters; leave it empty")
    return value or None


def at_most(field: str, value: int, most: int) -> int:
    """Return a number if it is not above its limit."""
    if value > most:
        raise invalid(field, f"is {value}, but at most {most} are allowed")
    return value
