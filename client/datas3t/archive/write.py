"""Headers of archives that we make ourselves: USTAR, and a PAX header where a name or a size does not fit it."""

from datas3t.archive.index import BLOCK

END = bytes(2 * BLOCK)

_NAME_SIZE = 100
_LARGEST_OCTAL = 8**11 - 1  # eleven octal digits: 8 GiB


def header(name: str, size: int, *, mode: int = 0o644, mtime: int = 0) -> bytes:
    """The header blocks of a regular file; whole blocks. `name` is as `names.entry_name` makes it."""
    encoded = name.encode("utf-8", "surrogateescape")
    records = b""
    if len(encoded) > _NAME_SIZE or not encoded.isascii():
        records += _pax_record(b"path", encoded)
    if size > _LARGEST_OCTAL:
        records += _pax_record(b"size", b"%d" % size)
    if not records:
        return _block(encoded, size, b"0", mode, mtime)
    extended = _block(b"PaxHeaders/" + encoded[:20], len(records), b"x", mode, mtime) + records + padding(len(records))
    return extended + _block(encoded[:_NAME_SIZE], size if size <= _LARGEST_OCTAL else 0, b"0", mode, mtime)


def padding(size: int) -> bytes:
    """The zero bytes behind a content of that size."""
    return bytes(-size % BLOCK)


def _block(name: bytes, size: int, kind: bytes, mode: int, mtime: int) -> bytes:
    fields = (
        name.ljust(_NAME_SIZE, b"\0"),
        b"%07o\0" % mode,
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        b"%011o\0" % size,
        b"%011o\0" % mtime,
        b" " * 8,  # the checksum, counted as blanks
        kind,
        bytes(_NAME_SIZE),
        b"ustar\x0000",
    )
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _pax_record(key: bytes, value: bytes) -> bytes:
    """`<length> <key>=<value>\\n`, where the length counts its own digits (POSIX.1-2001, pax)."""
    rest = b" %s=%s\n" % (key, value)
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d%s" % (length, rest)
