"""Pages of a listing of objects: the XML that S3 sends for ListObjectsV2, read with limits."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote_plus
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from datas3t.server.s3.faults import transfers_translated
from datas3t.server.s3.locations import Location
from datas3t.server.s3.markup import MAX_RESPONSE, check_markup
from datas3t.server.s3.wire import Wire
from datas3t.transport import bare_etag

_MAX_PAGES = 100  # of a listing of parts, which has 10, or of the uploads of one key
_MAX_DIGITS = 19  # of a size; the largest object of S3 has 13


@dataclass(frozen=True, slots=True)
class Listed:
    """An object in a listing, with its size in bytes."""

    key: str
    size: int
    etag: str
    modified: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing. `next_token` is the token for the next page, or "" on the last."""

    objects: list[Listed]
    folders: list[str]
    next_token: str


def list_page(wire: Wire, location: Location, query: Mapping[str, str]) -> Page:
    """Return a page of a listing. Raises Failure."""
    parameters = {"list-type": "2", "encoding-type": "url", **query}
    with transfers_translated(location, "ListObjectsV2"):
        return parse_page(wire.send("ListObjectsV2", "GET", query=parameters, limit=MAX_RESPONSE).body)


def parse_page(document: bytes) -> Page:
    """Return the page in a response to ListObjectsV2.

    Raises ValueError if the response is something else.
    """
    if b"<!DOCTYPE" in document or b"\0" in document:  # S3 sends neither document types nor UTF-16
        raise ValueError("the response is not a listing")
    check_markup(document)
    try:
        root = ElementTree.fromstring(document)  # noqa: S314 - without a document type there are no entities
    except ElementTree.ParseError:
        raise ValueError("the response is not a listing") from None
    if _local(root) != "ListBucketResult":
        raise ValueError("the response is not a listing")
    encoded = _text(root, "EncodingType") == "url"
    objects = [_listed(each, encoded) for each in _children(root, "Contents")]
    folders = [_name(_text(each, "Prefix"), encoded) for each in _children(root, "CommonPrefixes")]
    is_last = _text(root, "IsTruncated").lower() != "true"
    token = "" if is_last else _text(root, "NextContinuationToken")
    if not is_last and not token:
        raise ValueError("the listing breaks off without a token for its next page")
    return Page(objects, folders, token)


def _listed(element: Element, encoded: bool) -> Listed:
    key, size, etag = _name(_text(element, "Key"), encoded), _text(element, "Size"), bare_etag(_text(element, "ETag"))
    if not (size.isascii() and size.isdigit() and len(size) < _MAX_DIGITS):
        raise ValueError(f"its listing has {size[:40]!r} as the size of an object")
    return Listed(key, int(size), etag, _time(_text(element, "LastModified")))


def _time(text: str) -> datetime:
    """Return a time as S3 sends it, in ISO 8601, or as some stores send it, in the form of HTTP dates."""
    if not text:
        return datetime.fromtimestamp(0, UTC)
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        with suppress(ValueError):
            when = parse(text)
            return when if when.tzinfo else when.replace(tzinfo=UTC)
    raise ValueError(f"its listing has {text[:40]!r} as the time of an object")


def _name(text: str, encoded: bool) -> str:
    return unquote_plus(text) if encoded else text


def _text(element: Element, name: str) -> str:
    return next((child.text or "" for child in _children(element, name)), "")


def _children(element: Element, name: str) -> Iterator[Element]:
    return (child for child in element if _local(child) == name)


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def limited(pages: Iterable[Any]) -> Iterator[Any]:
    """Yield the pages of a listing that has few, and raise ValueError if it has too many."""
    for number, page in enumerate(pages):
        if number == _MAX_PAGES:
            raise ValueError(f"a listing of more than {_MAX_PAGES} pages")
        yield page


def with_zone(when: datetime) -> datetime:
    """Return a time that can be compared with others: without a time zone, it is taken for UTC."""
    return when if when.tzinfo else when.replace(tzinfo=UTC)
