"""The reference reader of an entry's header blocks. It works block by block and makes all error messages.

Dialects: V7, USTAR and PAX (POSIX.1-2001, "pax Interchange Format"), GNU (its manual, "Basic Tar Format").
"""

import struct
from collections.abc import Callable
from typing import NamedTuple
from zlib import adler32

from datas3t.archive import ArchiveError, names
from datas3t.archive.index import BLOCK, MAX_EXTENDED, MAX_HEADER_BLOCKS, MAX_SIZE, Entry, padded

Read = Callable[[int, int], bytes]
"""A function that returns exactly the bytes from `start` up to `stop` of an archive."""

_ZEROS = bytes(BLOCK)
UNKNOWN_SIZE = 1 << 65  # stands for the size of an archive where nothing is checked against it
_FIELDS = struct.Struct("100s24x12s12x8s1s100s6s82x155s12x")
_BLANK_CHECKSUM = 8 * ord(" ")
_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK = b"x", b"g", b"L", b"K"
_EXTENSIONS = {
    _PAX: "PAX headers",
    _PAX_GLOBAL: "global PAX headers",
    _LONG_NAME: "GNU long names",
    _LONG_LINK: "GNU long links",
}
SPARSE = b"GNU.sparse"  # stands for all records that make a file sparse
REGULAR = frozenset((b"0", b"\0"))
KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"5": "a directory",
    b"6": "a FIFO",
    b"7": "a contiguous file",
    b"S": "a sparse file",
}
_COMPRESSED = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    *((b"%c*M\x18" % first, "zstd") for first in range(0x50, 0x60)),  # skippable frames, with which pzstd's files begin
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"LZIP", "lzip"),
    (b"\x1f\x9d", "compress"),
    (b"\x1f\xa0", "compress"),
    (b"\x89LZO", "lzop"),
    (b"\x5d\0\0", "lzma"),
    (b"PK\x03\x04", "zip"),
    (b"7z\xbc\xaf", "7-Zip"),
)


class NamedEntry(NamedTuple):
    """An entry, with the key and the extension in its name."""

    entry: Entry
    key: int
    extension: str


class Headers(NamedTuple):
    """The last header block of an entry, and what extended headers before it say."""

    position: int
    fields: tuple[bytes, ...]
    override: dict[bytes, bytes]


def read_entry(read: Read, position: int, size: int) -> NamedEntry | None:
    """Read the headers of one entry.

    Args:
        read: Reads the archive.
        position: The byte at which the entry's first header block starts.
        size: The size of the archive in bytes.

    Returns:
        The entry, or None if the end marker starts at `position`.

    Raises:
        ArchiveError: The headers break a rule of the format.
    """
    headers = read_headers(read, position, size)
    return None if headers is None else _entry(position, headers, size)


def read_headers(read: Read, position: int, size: int) -> Headers | None:
    """Read all header blocks of the entry that starts at `position`; None if the end marker starts there."""
    start = position
    override: dict[bytes, bytes] = {}  # values from extended headers, which replace those of the main header
    seen: list[bytes] = []  # the types of the extended headers
    extended = 0  # bytes of their contents
    while True:
        if position + BLOCK > size:
            if position == 0:
                _check_compression(read(0, size))
            raise ArchiveError(
                f"the archive ends at byte {size} without an end marker: two blocks of {BLOCK} zero bytes are missing"
            )
        block = read(position, position + BLOCK)
        if block == _ZEROS:
            if position != start:
                raise ArchiveError(f"the extended header at byte {start} is not followed by an entry")
            return None
        fields = _FIELDS.unpack(block)
        _check_checksum(block, fields[2], position)
        kind = fields[3]
        if kind not in _EXTENSIONS:
            break
        if kind in seen or (kind == _PAX_GLOBAL and seen):
            raise ArchiveError(_ambiguous(start, position, kind))
        seen.append(kind)
        length = _number(fields[1], position)
        extended += length
        if extended > MAX_EXTENDED:
            raise ArchiveError(
                f"the entry at byte {start} has extended headers of more than {MAX_EXTENDED} bytes; "
                f"pack the files again without their extended attributes"
            )
        position = _read_extension(read, position, kind, length, size, override)
    return Headers(position, fields, override)


def check_entry(headers: bytes, entry: Entry, key: int) -> str:
    """Check that header blocks describe the entry that the index has for a key.

    Args:
        headers: The archive's bytes from the entry's position up to its content.
        entry: The entry according to the index.
        key: The key of the datapoint.

    Returns:
        The name of the entry.

    Raises:
        ArchiveError: The headers are damaged, or describe another entry.
    """

    def read(start: int, stop: int) -> bytes:
        piece = headers[start - entry.position : stop - entry.position]
        if len(piece) != stop - start:
            raise ArchiveError(f"the entry at byte {entry.position} has more than {entry.header_blocks} header blocks")
        return piece

    actual = read_entry(read, entry.position, UNKNOWN_SIZE)
    if actual is None:
        raise ArchiveError(
            f"according to the index key {key} is at byte {entry.position}, but the archive has zeros there"
        )
    name = names.entry_name(actual.key, actual.extension)
    if actual.key != key:
        raise ArchiveError(
            f"the entry at byte {entry.position} is {name!r}, but according to the index it has key {key}"
        )
    if actual.entry != entry:
        raise ArchiveError(
            f"entry {name!r} has {actual.entry.header_blocks} header blocks and {actual.entry.size} bytes, "
            f"but according to the index {entry.header_blocks} and {entry.size}"
        )
    return name


def pax_records(payload: bytes, position: int) -> dict[bytes, bytes]:
    r"""Return the records of a PAX extended header that affect how its entry is read, by key.

    A record is `<length> <key>=<value>\n`; the length counts the whole record. Other records are checked and forgotten,
    so the memory is bounded however many there are. `position` is the byte at which the header starts, for messages.

    Raises:
        ArchiveError: A record is malformed, or one that counts is repeated.
    """
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(payload) and payload[at : at + 1] != b"\0":
        blank = payload.find(b" ", at, at + 20)
        digits = payload[at:blank]
        stop = at + int(digits) if blank > at and digits.isdigit() else 0
        equals = payload.find(b"=", blank, stop)
        if stop > len(payload) or equals < 0 or payload[stop - 1 : stop] != b"\n":
            raise ArchiveError(f"the extended header at byte {position} has a malformed record")
        key = payload[blank + 1 : equals]
        if key in (b"path", b"size"):
            if key in records:
                raise ArchiveError(f"the extended header at byte {position} sets {key.decode()!r} twice")
            records[key] = payload[equals + 1 : stop - 1]
        elif key.startswith((SPARSE, b"SCHILY.realsize")):
            records[SPARSE] = b""
        at = stop
    return records


def _read_extension(
    read: Read, position: int, kind: bytes, length: int, size: int, override: dict[bytes, bytes]
) -> int:
    """Add the values of an extended header to `override` and return the byte at which the next header starts."""
    following = position + BLOCK + padded(length)
    if following > size:
        raise ArchiveError(f"the extended header at byte {position} is truncated: the archive ends at byte {size}")
    payload = read(position + BLOCK, position + BLOCK + length)
    if kind == _LONG_NAME:
        override[b"GNU.name"] = payload.partition(b"\0")[0]
    elif kind == _PAX:
        override.update(pax_records(payload, position))
    elif kind == _PAX_GLOBAL:
        records = pax_records(payload, position)
        for key in (b"path", b"size"):
            if key in records:
                raise ArchiveError(
                    f"the global header at byte {position} sets {key.decode()!r}, which only an entry's header may set"
                )
        override.update(records)
    return following


def _ambiguous(start: int, position: int, kind: bytes) -> str:
    """Return the message for an extended header that other programs would apply differently, or not at all."""
    if kind == _PAX_GLOBAL:
        what = f"the global header at byte {position} follows other headers of the entry at byte {start}"
    else:
        what = f"the entry at byte {start} has two {_EXTENSIONS[kind]}"
    return f"{what}, which programs read differently; pack the files again with another program"


def _entry(start: int, headers: Headers, size: int) -> NamedEntry:
    """Return the entry that has these headers, of which the first starts at `start`."""
    name, kind = raw_name(start, headers.fields, headers.override), headers.fields[3]

    # Only regular files may be datapoints.
    if kind not in REGULAR:
        what = KINDS.get(kind, f"of type {kind.decode('latin-1')!r}")
        raise ArchiveError(f"entry {names.quoted(name)} is {what}, but only regular files may be datapoints")
    if SPARSE in headers.override:
        raise ArchiveError(f"entry {names.quoted(name)} is a sparse file, but only regular files may be datapoints")

    key, extension = names.parse_entry_name(name)
    return NamedEntry(placed(start, headers, name, size), key, extension)


def raw_name(start: int, fields: tuple[bytes, ...], override: dict[bytes, bytes]) -> bytes:
    """Return the name of an entry: a PAX path comes before a GNU long name, and that before the main header's fields.

    `start` is the byte at which its headers start, for messages.
    """
    name = fields[0].partition(b"\0")[0]
    if fields[5] == b"ustar\0" and fields[6][0]:
        name = fields[6].partition(b"\0")[0] + b"/" + name
    if b"path" in override and b"GNU.name" in override:
        raise ArchiveError(
            f"the entry at byte {start} has a GNU long name and a PAX path, and programs differ in which one they use; "
            f"pack the files again with another program"
        )
    return override.get(b"path", override.get(b"GNU.name", name))


def placed(start: int, headers: Headers, name: bytes, size: int) -> Entry:
    """Return where an entry is, whose numbers must fit a record of the index, and which must be within the archive."""
    position, fields, override = headers
    length = _pax_size(override[b"size"], name) if b"size" in override else _number(fields[1], position)
    blocks = (position - start) // BLOCK + 1
    if length > MAX_SIZE or blocks > MAX_HEADER_BLOCKS:
        raise ArchiveError(
            f"entry {names.quoted(name)} has {length} bytes and {blocks} header blocks; "
            f"the limits are {MAX_SIZE} bytes and {MAX_HEADER_BLOCKS} blocks"
        )
    entry = Entry(start, blocks, length)
    if entry.stop > size:
        raise ArchiveError(
            f"entry {names.quoted(name)} is truncated: it ends at byte {entry.stop}, "
            f"but the archive ends at byte {size}"
        )
    return entry


def _check_checksum(block: bytes, field: bytes, position: int) -> None:
    """Raise ArchiveError unless the checksum in `field` is that of the header block.

    It is the sum of the header's bytes, with the checksum itself counted as blanks. Some old programs added signed
    bytes, which is accepted too.
    """
    stored = _octal(field)
    # The fastest exact sum: adler32's lower half is 1 plus the sum modulo 65,521, which half a block cannot reach.
    total = (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) - 2
    total += _BLANK_CHECKSUM - sum(field)
    if stored == total:
        return
    if stored is not None and not block.isascii():
        signed = total - 256 * sum(byte > 127 for byte in block[:148] + block[156:])
        if stored == signed:
            return
    if position == 0:
        _check_compression(block)
    raise ArchiveError(
        f"the header at byte {position} has a wrong checksum: the file is damaged or is not a TAR archive"
    )


def _check_compression(start: bytes) -> None:
    """Raise ArchiveError if these first bytes of an archive show that it is compressed."""
    for magic, program in _COMPRESSED:
        if start.startswith(magic):
            raise ArchiveError(f"the archive is compressed with {program}; decompress it first")


def _number(field: bytes, position: int) -> int:
    """Return a number in a header: octal digits, or base-256 if the first bit is set (GNU)."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    value = _octal(field)
    if value is None:
        raise ArchiveError(f"the header at byte {position} has a malformed size")
    return value


def _octal(field: bytes) -> int | None:
    """Return a number in octal digits, 0 for an empty field, or None if it has other characters."""
    digits = field.partition(b"\0")[0].strip(b" ")
    if not digits:
        return 0
    return int(digits, 8) if digits.isdigit() and not set(digits) & {56, 57} else None


def _pax_size(value: bytes, name: bytes) -> int:
    """Return the size in a PAX record of the entry with this name."""
    if not value.isdigit() or len(value) > 20:
        raise ArchiveError(f"entry {names.quoted(name)} has a malformed size in its extended header")
    return int(value)
