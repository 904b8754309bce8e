"""Names of the objects in a bucket and of the entries in an archive (docs/format.md, "Objects" and "Archive")."""

import re
from typing import Literal, NamedTuple

from datas3t.archive import ArchiveError

MAX_KEY = 2**63 - 1

_DATAS3T = re.compile(r"[A-Za-z0-9_-]{1,255}")
_OBJECT = re.compile(
    r"datas3t/([A-Za-z0-9_-]{1,255})/dataranges/([0-9]{20})-([0-9]{20})-([0-9]{12,18})\.(tar|index|crc32c)"
)
_TABLE_FILE = re.compile(
    r"datas3t/([A-Za-z0-9_-]{1,255})/tables/([A-Za-z0-9_-]{1,255})/([0-9]{20})-([0-9]{20})-([0-9]{12,18})\.parquet"
)
_ENTRY = re.compile(rb"([0-9]{20})\.([^/\0]+)", re.DOTALL)
_DIGITS = 20
_COUNTER_DIGITS = 18  # at most; fewer than 12 are padded with zeros


Kind = Literal["tar", "index", "crc32c"]


class ObjectName(NamedTuple):
    """The parts of an object's key: first and last datapoint, upload counter, and which of the three objects it is."""

    datas3t: str
    first: int
    last: int
    counter: int
    kind: Kind


class TableFileName(NamedTuple):
    """The parts of the object key of a table's file: the least and the greatest key of its rows, and the counter."""

    datas3t: str
    table: str
    first: int
    last: int
    counter: int


def valid_name(name: str) -> bool:
    """Whether a datas3t, a table or a bucket configuration may have this name."""
    return _DATAS3T.fullmatch(name) is not None


def folder(datas3t: str) -> str:
    """Return the prefix of all object keys of a datas3t."""
    return f"datas3t/{datas3t}/"


def prefix(datas3t: str) -> str:
    """Return the prefix of the object keys of all dataranges of a datas3t."""
    return f"{folder(datas3t)}dataranges/"


def tables_prefix(datas3t: str) -> str:
    """Return the prefix of the object keys of all files of a datas3t's tables."""
    return f"{folder(datas3t)}tables/"


def range_prefix(datas3t: str, first: int, last: int) -> str:
    """Return the prefix of the object keys of all dataranges with these first and last keys."""
    return f"{prefix(datas3t)}{first:020d}-{last:020d}-"


def archive_key(datas3t: str, first: int, last: int, counter: int) -> str:
    """Return the object key of an archive.

    Args:
        datas3t: The name of the datas3t.
        first: The key of the archive's first datapoint.
        last: The key of its last datapoint.
        counter: The number of the upload, counted from 1 in each datas3t. It makes the object key unique.
    """
    return f"{prefix(datas3t)}{first:020d}-{last:020d}-{counter:012d}.tar"


def table_file_prefix(datas3t: str, table: str, first: int, last: int) -> str:
    """Return what the object key of a table's file begins with, up to the counter."""
    return f"{tables_prefix(datas3t)}{table}/{first:020d}-{last:020d}-"


def table_file_key(datas3t: str, table: str, first: int, last: int, counter: int) -> str:
    """Return the object key of a table's file. The counter is drawn from the same numbers as those of archives."""
    return f"{table_file_prefix(datas3t, table, first, last)}{counter:012d}.parquet"


def index_key(archive: str) -> str:
    """Return the object key of the index that belongs to the archive with this object key."""
    return archive.removesuffix(".tar") + ".index"


def checksums_key(archive: str) -> str:
    """Return the object key of the checksums that belong to the archive with this object key."""
    return archive.removesuffix(".tar") + ".crc32c"


def counter_of(folder: str, first: int, last: int, archive: str, index: str) -> int | None:
    """Return the counter in the object keys of an archive and its index, if they are as `archive_key` makes them.

    Args:
        folder: What takes the place of `prefix`.
        first: The key of the archive's first datapoint.
        last: The key of its last datapoint.
        archive: The object key of the archive.
        index: The object key of the index.

    Returns:
        The counter; None if one of the object keys is another.
    """
    start = f"{folder}{first:020d}-{last:020d}-"
    digits = archive[len(start) : -len(".tar")]
    if not (archive.startswith(start) and digits.isascii() and digits.isdigit() and len(digits) <= _COUNTER_DIGITS):
        return None
    counter = int(digits)
    is_usual = archive == f"{start}{counter:012d}.tar" and index == index_key(archive)
    return counter if is_usual else None


def archive_of(beside: str) -> str:
    """Return the object key of the archive that the index or the checksums with this object key belong to."""
    return beside.rpartition(".")[0] + ".tar"


def parse(object_key: str) -> ObjectName | None:
    """Return the parts of an object key, or None unless it is exactly a key that a function of this module makes."""
    match = _OBJECT.fullmatch(object_key)
    if match is None:
        return None
    datas3t, first, last, counter, suffix = match.groups()
    kind: Kind = "tar" if suffix == "tar" else "index" if suffix == "index" else "crc32c"
    name = ObjectName(datas3t, int(first), int(last), int(counter), kind)
    canonical = counter == f"{name.counter:012d}"  # no more leading zeros than needed
    return name if canonical and name.counter > 0 and name.first <= name.last <= MAX_KEY else None


def parse_table_file(object_key: str) -> TableFileName | None:
    """Return the parts of an object key, or None unless it is exactly a key that `table_file_key` makes."""
    match = _TABLE_FILE.fullmatch(object_key)
    if match is None:
        return None
    datas3t, table, first, last, counter = match.groups()
    name = TableFileName(datas3t, table, int(first), int(last), int(counter))
    canonical = counter == f"{name.counter:012d}"
    return name if canonical and name.counter > 0 and name.first <= name.last <= MAX_KEY else None


def datas3t_of(object_key: str) -> str:
    """Return the datas3t that an object key of an archive or a table's file belongs to."""
    return object_key.split("/", 2)[1]


def entry_name(key: int, extension: str) -> str:
    """Return the entry name of a datapoint. The extension has no leading dot."""
    return f"{key:0{_DIGITS}d}.{extension}"


def parse_entry_name(name: bytes | str) -> tuple[int, str]:
    """Return the key and the extension in an entry's name.

    Raises:
        ArchiveError: The name is not twenty digits, a dot and an extension, or the key is too large.
    """
    if isinstance(name, str):
        name = name.encode("utf-8", "surrogateescape")
    match = _ENTRY.fullmatch(name)
    if match is None:
        raise ArchiveError(f"entry {quoted(name)} is not named <20 digits>.<extension>")
    key = int(match[1])
    if key > MAX_KEY:
        raise ArchiveError(f"entry {quoted(name)} has a key above {MAX_KEY}")
    return key, match[2].decode("utf-8", "surrogateescape")


def quoted(name: bytes) -> str:
    """Return a name for a message: quoted, on one line, with at most 100 characters."""
    text = name.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 100 else text[:97] + "...")
