"""An archive whose bytes follow from the sizes of its contents: positions, headers and index, in arrays.

It has the bytes that `write.header` and `write.padding` would make one by one, in a tenth of the time.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datas3t.archive import names, write
from datas3t.archive.index import BLOCK, END_SIZE

Numbers = NDArray[np.int64]

_ZERO = ord("0")
_RECORDS = np.dtype([("position", ">u8"), ("blocks", ">u2"), ("high", ">u2"), ("low", ">u4")])
_SIZE_FIELD = slice(124, 135)
_CHECKSUM_FIELD = slice(148, 156)


class Layout:
    """Where everything is in an archive of contents with consecutive keys.

    Args:
        first: The key of the first content.
        sizes: The sizes of the contents in bytes.
        kinds: For each content the number of its extension.
        extensions: The extensions, without their dots.

    Attributes:
        first: The key of the first content.
        sizes: The sizes of the contents.
        header_blocks: The number of header blocks of each entry.
        starts: The position of each entry, and that of the end marker.

    Example:
        >>> layout = Layout(1, np.array([700]), np.array([0]), ["jpg"])
        >>> layout.starts.tolist(), layout.size
        ([0, 1536], 2560)
    """

    def __init__(self, first: int, sizes: Numbers, kinds: NDArray[np.uint32], extensions: Sequence[str]) -> None:
        self.first = first
        self.sizes = sizes
        self._kinds = kinds
        self._extensions = extensions
        self._templates, is_plain = _templates(extensions)
        self.header_blocks = np.where(is_plain[kinds] & (sizes <= write.LARGEST_OCTAL), 1, 0)
        for number in np.flatnonzero(self.header_blocks == 0).tolist():  # few, because their contents or names are long
            self.header_blocks[number] = len(self._header(number)) // BLOCK
        self.starts = np.zeros(len(sizes) + 1, np.int64)
        np.cumsum(self.header_blocks * BLOCK + padded(sizes), out=self.starts[1:])

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self.sizes)

    @property
    def last(self) -> int:
        """The key of the last content."""
        return self.first + len(self) - 1

    @property
    def entries_end(self) -> int:
        """The byte at which the end marker starts."""
        return int(self.starts[-1])

    @property
    def size(self) -> int:
        """The size of the archive in bytes."""
        return self.entries_end + END_SIZE

    @property
    def extension(self) -> str | None:
        """The extension that all contents have, or None if they differ."""
        kinds = np.unique(self._kinds)
        return self._extensions[kinds[0]] if len(kinds) == 1 else None

    def index(self) -> bytes:
        """Return the archive's index."""
        records = np.empty(len(self), _RECORDS)
        records["position"], records["blocks"] = self.starts[:-1], self.header_blocks
        records["high"], records["low"] = self.sizes >> 32, self.sizes & 0xFFFFFFFF
        return records.tobytes()

    def headers(self, start: int, stop: int) -> list[bytes]:
        """Return the header blocks of the entries number `start` up to `stop`."""
        blocks = self._templates[self._kinds[start:stop]]
        keys = np.arange(self.first + start, self.first + stop, dtype=np.int64)
        digits = _write_digits(blocks[:, :20], keys, 10) + _write_digits(
            blocks[:, _SIZE_FIELD], self.sizes[start:stop], 8
        )
        sums = _checksums(self._templates)[self._kinds[start:stop]] + digits
        _write_digits(blocks[:, _CHECKSUM_FIELD][:, :6], sums, 8)
        headers: list[bytes] = blocks.view(f"V{BLOCK}").ravel().tolist()
        for number in np.flatnonzero(self.header_blocks[start:stop] != 1).tolist():
            headers[number] = self._header(start + number)
        return headers

    def _header(self, number: int) -> bytes:
        name = names.entry_name(self.first + number, self._extensions[self._kinds[number]])
        return write.header(name, int(self.sizes[number]))


def padded(sizes: Numbers) -> Numbers:
    """Return the sizes of contents with their padding to whole blocks."""
    whole: Numbers = -(-sizes // BLOCK) * BLOCK
    return whole


def _templates(extensions: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return a header of key 0 and size 0 for each extension, with zeros for its checksum, and which are plain.

    The headers of names that do not fit one block are only there to be replaced.
    """
    headers = [write.header(names.entry_name(0, extension), 0) for extension in extensions]
    is_plain = np.array([len(header) == BLOCK for header in headers])
    templates = np.frombuffer(b"".join(header[-BLOCK:] for header in headers), np.uint8).reshape(-1, BLOCK).copy()
    templates[:, _CHECKSUM_FIELD] = np.frombuffer(b"000000\0 ", np.uint8)
    return templates, is_plain


def _checksums(templates: NDArray[np.uint8]) -> Numbers:
    """Return the checksums of the templates; the checksum counts its own field as blanks."""
    sums: Numbers = templates.sum(axis=1, dtype=np.int64) - templates[:, _CHECKSUM_FIELD].sum(axis=1, dtype=np.int64)
    return sums + 8 * ord(" ")


def _write_digits(field: NDArray[np.uint8], values: Numbers, base: int) -> Numbers:
    """Write numbers into fields of zeros, and return by how much the sums of the fields grow."""
    total = np.zeros(len(values), np.int64)
    for at in range(field.shape[1] - 1, -1, -1):
        if not values.any():  # only zeros are left
            break
        rest = values // base
        digits = values - rest * base
        field[:, at] = digits + _ZERO
        total += digits
        values = rest
    return total
