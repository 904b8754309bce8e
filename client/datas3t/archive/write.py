"""Headers of the archives that we write: USTAR, plus a PAX header if a name or a size does not fit."""

from datas3t.archive.index import BLOCK

END = bytes(2 * BLOCK)  # the end marker of an archive

_NAME_SIZE = 100
LARGEST_OCTAL = 8**11 - 1  # the field has eleven octal digits: less than 8 GiB


def header(name: str, size: int, *, mode: int = 0o644, mtime: int = 0, any_size: bool = False) -> bytes:
    """Return the header blocks of a regular file.

    Args:
        name: The name of the entry, as `names.entry_name` makes it.
        size: The size of the content in bytes.
        mode: The permissions of the file.
        mtime: The time of the last modification, in seconds since 1970.
        any_size: Whether there are as many blocks for every size, so that they can be written after the content. A name
            of at most 256 bytes is needed for that.
    """
    encoded = name.encode("utf-8", "surrogateescape")
    records = b""
    if len(encoded) > _NAME_SIZE or not encoded.isascii():
        records += _pax_record(b"path", encoded)
    if any_size or size > LARGEST_OCTAL:
        records += _pax_record(b"size", b"%d" % size)
    if not records:
        return _block(encoded, size, b"0", mode, mtime)
    extended = _block(b"PaxHeaders/" + encoded[:20], len(records), b"x", mode, mtime) + records + padding(len(records))
    return extended + _block(encoded[:_NAME_SIZE], size if size <= LARGEST_OCTAL else 0, b"0", mode, mtime)


def padding(size: int) -> bytes:
    """Return the zero bytes that follow a content of `size` bytes."""
    return bytes(-size % BLOCK)


def _block(name: bytes, size: int, kind: bytes, mode: int, mtime: int) -> bytes:
    """Return one USTAR header block with its checksum."""
    fields = (
        name.ljust(_NAME_SIZE, b"\0"),
        b"%07o\0" % mode,
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        b"%011o\0" % size,
        b"%011o\0" % mtime,
        b" " * 8,  # the checksum; its sum counts the field itself as blanks
        kind,
        bytes(_NAME_SIZE),
        b"ustar\x0000",
    )
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _pax_record(key: bytes, value: bytes) -> bytes:
    r"""Return `<length> <key>=<value>\n`, where the length counts its own digits too (POSIX.1-2001, pax)."""
    rest = b" %s=%s\n" % (key, value)
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d%s" % (length, rest)
