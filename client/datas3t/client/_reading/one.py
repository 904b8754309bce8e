"""One datapoint: its record, its header, its content."""

from datas3t.archive import FormatError
from datas3t.archive.header import check_entry
from datas3t.archive.index import BLOCK, RECORD, Entry
from datas3t.client._reading.catalogue import Leased
from datas3t.client._reading.fetching import LARGEST, Fetching
from datas3t.client._reading.index_files import unfit
from datas3t.client._reading.indices import Indices


def content(leased: Leased, key: int, indices: Indices, fetching: Fetching) -> bytes:
    """The content of a key that the datarange holds. Raises Unfit where the index is another archive's."""
    start, blocks, high, low = RECORD.unpack(indices.record(leased, key, fetching))
    headers, size = blocks * BLOCK, high << 32 | low
    stop = start + headers + size
    if not blocks or stop > leased.entries_end:
        raise unfit(leased, f"key {key} would be at bytes {start} to {stop}")
    if stop - start > LARGEST:
        return large(leased, key, Entry(start, blocks, size), fetching)[1]
    body = fetching.one(leased, start, stop)
    if not is_plain(body, 0, headers, key, size):
        name_of(leased, key, Entry(start, blocks, size), body[:headers])
    return body[headers:]


def large(leased: Leased, key: int, entry: Entry, fetching: Fetching) -> tuple[str, bytes]:
    """Name and content of a datapoint that is fetched in parts, and is in memory once."""
    place = entry.content
    headers = fetching.one(leased, entry.position, place.start)
    return name_of(leased, key, entry, headers), fetching.large(leased, place.start, place.stop)


def is_plain(body: bytes, at: int, headers: int, key: int, size: int) -> bool:
    """Whether the `headers` bytes at this place of a body are one block as most tools write it, with this key and size.

    Of anything else `name_of` is the judge.
    """
    return (
        headers == BLOCK
        and body[at : at + 20] == b"%020d" % key
        and body[at + 124 : at + 135] == b"%011o" % size
        and body[at + 156] in b"0\0"
    )


def name_of(leased: Leased, key: int, entry: Entry, headers: bytes) -> str:
    """The name that an entry's headers give it. Raises Unfit where they are not this entry's."""
    try:
        return check_entry(headers, entry, key)
    except FormatError as error:
        raise unfit(leased, str(error)) from None
