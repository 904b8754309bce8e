"""The values of requests: what is not allowed is refused by the field's name, before database or S3 see it."""

from collections.abc import Sequence

from datas3t import v1
from datas3t.archive.names import MAX_KEY, valid_name
from datas3t.archive.parts import MAX_OBJECT, MAX_PARTS
from datas3t.server.errors import Failure

_LONGEST_ETAG = 1024  # characters


def invalid(field: str, message: str) -> Failure:
    """INVALID_VALUE; the message begins with the field."""
    return Failure(v1.ERROR_REASON_INVALID_VALUE, f"{field} {message}", field=field)


def name(field: str, value: str) -> str:
    """The name of a bucket configuration or a datas3t."""
    if not valid_name(value):
        raise invalid(field, "must be 1 to 255 letters, digits, - or _")
    return value


def key(field: str, value: int) -> int:
    """A datapoint's key, 0 to 2^63-1."""
    if not 0 <= value <= MAX_KEY:
        raise invalid(field, f"is {value}, but keys are 0 to {MAX_KEY}")
    return value


def span(first_field: str, first: int, last_field: str, last: int) -> tuple[int, int]:
    """First and last key, both inclusive."""
    key(first_field, first)
    key(last_field, last)
    if first > last:
        raise invalid(last_field, f"is {last}, below {first_field}, which is {first}")
    return first, last


def count(field: str, value: int, first: int) -> int:
    """How many datapoints there are from `first` on; answers the last key."""
    if value < 1:
        raise invalid(field, "must be at least 1")
    last = first + value - 1
    if last > MAX_KEY:
        raise invalid(field, f"is {value}: the last key would be {last}, but keys are 0 to {MAX_KEY}")
    return last


def archive_size(field: str, value: int) -> int:
    """The size of an archive in bytes, up to S3's limit of 5 TiB."""
    if not 1 <= value <= MAX_OBJECT:
        raise invalid(field, f"is {value}, but an archive has 1 to {MAX_OBJECT} bytes")
    return value


def etags(field: str, given: Sequence[str]) -> list[str]:
    """Those of an archive's parts, without the quotes that they may have."""
    if len(given) > MAX_PARTS:
        raise invalid(field, f"has {len(given)} ETags, but an archive has at most {MAX_PARTS} parts")
    if any(len(etag) > _LONGEST_ETAG for etag in given):
        raise invalid(field, f"has an ETag of more than {_LONGEST_ETAG} characters; give what S3 answered to the PUTs")
    return [etag.strip().strip('"') for etag in given]


def at_most(field: str, value: int, most: int) -> int:
    """A number that has a limit."""
    if value > most:
        raise invalid(field, f"is {value}, but at most {most} are allowed")
    return value


def page_size(value: int, most: int, default: int) -> int:
    """How many a page holds; 0 is the default."""
    if not 0 <= value <= most:
        raise invalid("page_size", f"is {value}, but a page has 1 to {most}")
    return value or default


def page_name(token: str) -> str:
    """The name that a page token stands for; empty: the first page."""
    return name("page_token", token) if token else ""


def page_key(token: str) -> int:
    """The key that a page token stands for; empty: -1, the first page."""
    if not token:
        return -1
    if not (token.isascii() and token.isdigit() and len(token) < 20 and int(token) <= MAX_KEY):
        raise invalid("page_token", "is not one that a page before this answered")
    return int(token)
