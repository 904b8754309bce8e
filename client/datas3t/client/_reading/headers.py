"""The headers of many entries, compared with their keys and index records; alone, or in front of their contents."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice, pairwise

import numpy as np

from datas3t.archive import bulk_headers, reads
from datas3t.archive.bulk_headers import WORD, WORDS, Checker
from datas3t.archive.index import BLOCK
from datas3t.client._reading.checksums import Checksums
from datas3t.client._reading.datapoint import checked_name
from datas3t.client._reading.fetching import MAX_REQUEST, Fetcher, Piece
from datas3t.client._reading.index_files import MAX_BATCH, IndexMismatch
from datas3t.client._reading.indices import Indices
from datas3t.client._reading.locations import Locations, Numbers, from_records
from datas3t.client.keyset import KeySet

_RECORDS_AT_ONCE = 16_384  # index records that are decoded together: 256 KiB
_READ_AHEAD = 16 << 20  # bytes of headers in memory
_NAME_REST = slice(20, 100)  # bytes of a header: the rest of the name after the key
_MAX_EXTENSIONS = 1_000  # decoded extensions that are remembered


def locations(
    first: int, last: int, indices: Indices, fetcher: Fetcher, checksums: Checksums | None = None
) -> Iterator[Locations]:
    """Yield where the datapoints with keys from `first` to `last` are, some thousands of one datarange at a time.

    With `checksums`, these are yielded as well.
    """
    pieces, ahead = fetcher.catalogues.overlapping(first, last), 1
    # Fetch small indices together, twice as many each time: a scan that stops early needs only a few.
    while batch := list(islice(pieces, ahead)):
        dataranges = {datarange.id: datarange for datarange, _, _ in batch}
        indices.prepare(list(dataranges.values()), fetcher)
        if checksums is not None:
            checksums.prepare(list(dataranges.values()), fetcher)
        for datarange, low, high in batch:
            for start in range(low, high + 1, _RECORDS_AT_ONCE):
                keys = range(start, min(start + _RECORDS_AT_ONCE, high + 1))
                left = high + 1 - start
                found = from_records([datarange], keys, indices.records({datarange: keys}, fetcher, left))
                if checksums is not None:
                    found = replace(found, sums=checksums.of({datarange: keys}, fetcher, left))
                yield found
        ahead = min(2 * ahead, MAX_BATCH)


def large(first: int, last: int, size: int, indices: Indices, fetcher: Fetcher) -> list[int]:
    """Return the keys from `first` to `last` whose contents have `size` bytes or more."""
    found = locations(first, last, indices, fetcher)
    return [key for entries in found for key in entries.keys[entries.sizes >= size].tolist()]


def sizes_of(keyset: KeySet, indices: Indices, fetcher: Fetcher) -> tuple[KeySet, Numbers]:
    """Return those keys of a set that exist, and the sizes of their contents. Indices are read from end to end."""
    found, sizes = KeySet(), [np.zeros(0, np.int64)]
    for entries in locations(keyset[0], keyset[-1], indices, fetcher) if keyset else ():
        is_wanted = keyset.mask(entries.keys)
        found |= KeySet(entries.keys[is_wanted])
        sizes.append(entries.sizes[is_wanted])
    return found, np.concatenate(sizes)


class HeaderReader:
    """Reads the names of entries and checks their headers: most are one plain block, so many are checked at once."""

    def __init__(self) -> None:
        self._checker = Checker()
        self._extensions: dict[bytes, str] = {}

    def names(self, entries: Locations, body: bytes | memoryview, heads: Numbers) -> list[str]:
        """Return the names of consecutive entries of one datarange.

        Args:
            entries: The entries.
            body: Whole blocks, the header blocks of each entry among them.
            heads: The number of the first header block of each entry in `body`.

        Raises:
            IndexMismatch: A header is damaged, or contradicts its key or its index record.
        """
        datarange, first = entries.dataranges[0], int(entries.keys[0])
        mains = heads + (entries.contents - entries.starts) // BLOCK - 1
        if (int(mains[-1]) + 1) * BLOCK > len(body):
            raise IndexMismatch(datarange, f"the bytes of key {int(entries.keys[-1])} are missing")
        # Check all headers at once: most are one plain block, perhaps after a PAX header without meaning here.
        blocks = np.frombuffer(body, WORD).reshape(-1, WORDS)
        rows = blocks[mains]
        good = self._checker.are_regular(rows) & bulk_headers.are_named(rows, first)
        good &= bulk_headers.sizes(rows).astype(np.int64) == entries.sizes
        extended = np.flatnonzero(good & (mains - heads == 2))
        good &= mains == heads
        if len(extended):
            good[extended] = self._checker.are_harmless(blocks[heads[extended]], blocks[heads[extended] + 1])
        # Make the names; usually all entries have the same extension.
        keys = range(first, first + len(rows))
        rests = np.ascontiguousarray(rows.view(np.uint8)[:, _NAME_REST])
        if (rests == rests[0]).all():
            extension = self._extension(rests[0].tobytes())
            names = [f"{key:020d}{extension}" for key in keys]
        else:
            names = [f"{key:020d}{self._extension(rest.tobytes())}" for key, rest in zip(keys, rests, strict=True)]
        # Read the remaining headers one by one.
        for n in np.flatnonzero(~good).tolist():
            headers = bytes(body[heads[n] * BLOCK : (mains[n] + 1) * BLOCK])
            names[n] = checked_name(datarange, keys[n], entries.entry(n), headers)
        return names

    def _extension(self, raw: bytes) -> str:
        """Return what follows the key in a header's name; the result is meaningless if the header is not plain."""
        extension = self._extensions.get(raw)
        if extension is None:
            if len(self._extensions) > _MAX_EXTENSIONS:
                self._extensions.clear()
            extension = self._extensions[raw] = raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        return extension


def check_stored(
    first: int, last: int, indices: Indices, fetcher: Fetcher, parallelism: int, on_checked: Callable[[int], None]
) -> None:
    """Check every header from key `first` to key `last` in S3. Contents are read only where that costs less.

    Args:
        first: The first key.
        last: The last key, inclusive.
        indices: Where the entries are.
        fetcher: Fetches the headers.
        parallelism: How many requests are made at a time.
        on_checked: Called with the number of entries that were checked since the last call.

    Raises:
        IndexMismatch: A header is damaged, or contradicts its key or its index record.
        RestartRead: See `Fetcher`, with its other errors.
    """
    reader = HeaderReader()

    def jobs() -> Iterator[tuple[Locations, Piece]]:
        for entries in locations(first, last, indices, fetcher):
            cut = reads.plan(entries.archives, entries.starts, entries.contents, fetcher.costs.gap, MAX_REQUEST)
            for at, stop in pairwise(cut.bounds.tolist()):
                part = entries.part(at, stop)
                yield part, Piece(part.dataranges[0], int(part.starts[0]), int(part.contents[-1]))

    def check(part: Locations, body: memoryview) -> Iterable[int]:
        return (len(reader.names(part, body, (part.starts - part.starts[0]) // BLOCK)),)

    for count in fetcher.stream(jobs(), check, _READ_AHEAD, parallelism):
        on_checked(count)
