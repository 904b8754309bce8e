"""Members of archives that others wrote, which may have any name and be of any type."""

from typing import NamedTuple

from datas3t.archive import ArchiveError, names
from datas3t.archive.header import KINDS, REGULAR, SPARSE, UNKNOWN_SIZE, Read, placed, raw_name, read_headers
from datas3t.archive.index import BLOCK, Entry

_WITHOUT_CONTENT = frozenset((b"1", b"2", b"3", b"4", b"5", b"6"))  # whatever size their headers have
_CONTIGUOUS = b"7"  # a regular file for every program of today
_OLD_SPARSE = b"S"


class Member(NamedTuple):
    """A member of an archive.

    Attributes:
        entry: Where it is.
        name: Its name, as the archive has it.
        what: What it is if it is not a regular file, such as "a directory"; empty if it is one.
    """

    entry: Entry
    name: bytes
    what: str


def read_member(read: Read, position: int) -> Member | None:
    """Read the headers of one member. The same limits apply as for our own archives.

    Args:
        read: Reads the archive; it is asked for bytes in ascending order, none of them twice.
        position: The byte at which the first header block starts.

    Returns:
        The member, or None if the end marker starts at `position`. Whether the archive has its content is not known.

    Raises:
        ArchiveError: The headers are damaged or ambiguous, or too large, or it is a sparse file.
    """
    headers = read_headers(read, position, UNKNOWN_SIZE)
    if headers is None:
        return None
    name, kind = raw_name(position, headers.fields, headers.override), headers.fields[3]
    if kind == _OLD_SPARSE or SPARSE in headers.override:
        raise ArchiveError(f"entry {names.quoted(name)} is a sparse file; pack the files again as ordinary ones")
    if kind in _WITHOUT_CONTENT:
        entry = Entry(position, (headers.position - position) // BLOCK + 1, 0)
    else:
        entry = placed(position, headers, name, UNKNOWN_SIZE)
    is_file = kind in REGULAR or kind == _CONTIGUOUS
    return Member(entry, name, "" if is_file else KINDS.get(kind, f"of type {kind.decode('latin-1')!r}"))
