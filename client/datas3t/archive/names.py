"""Names: of the objects in a bucket, and of the entries in an archive (docs/format.md, "Objects" and "Archive")."""

import re
from typing import Literal, NamedTuple

from datas3t.archive import ArchiveError

MAX_KEY = 2**63 - 1

_DATAS3T = re.compile(r"[A-Za-z0-9_-]{1,255}")
_OBJECT = re.compile(r"datas3t/([A-Za-z0-9_-]{1,255})/dataranges/([0-9]{20})-([0-9]{20})-([0-9]{12,18})\.(tar|index)")
_ENTRY = re.compile(rb"([0-9]{20})\.([^/\0]+)", re.DOTALL)
_DIGITS = 20


class ObjectName(NamedTuple):
    """What an object's key says: inclusive keys, the upload counter, and which of the two objects it is."""

    datas3t: str
    first: int
    last: int
    counter: int
    kind: Literal["tar", "index"]


def valid_name(name: str) -> bool:
    """Whether a datas3t or a bucket configuration may have this name."""
    return _DATAS3T.fullmatch(name) is not None


def prefix(datas3t: str) -> str:
    """What the keys of all objects of a datas3t begin with."""
    return f"datas3t/{datas3t}/dataranges/"


def archive_key(datas3t: str, first: int, last: int, counter: int) -> str:
    """The key of an archive's object."""
    return f"{prefix(datas3t)}{first:020d}-{last:020d}-{counter:012d}.tar"


def index_key(archive: str) -> str:
    """The key of the index beside the archive with that key."""
    return archive.removesuffix(".tar") + ".index"


def parse(object_key: str) -> ObjectName | None:
    """What the key says, or None where it is not exactly one of ours."""
    match = _OBJECT.fullmatch(object_key)
    if match is None:
        return None
    datas3t, first, last, counter, kind = match.groups()
    name = ObjectName(datas3t, int(first), int(last), int(counter), "tar" if kind == "tar" else "index")
    padded = counter == f"{name.counter:012d}"
    return name if padded and name.counter > 0 and name.first <= name.last <= MAX_KEY else None


def entry_name(key: int, extension: str) -> str:
    """The name of a datapoint's entry; the extension is without its leading dot."""
    return f"{key:0{_DIGITS}d}.{extension}"


def parse_entry_name(name: bytes | str) -> tuple[int, str]:
    """Key and extension of an entry's name. Raises ArchiveError."""
    if isinstance(name, str):
        name = name.encode("utf-8", "surrogateescape")
    match = _ENTRY.fullmatch(name)
    if match is None:
        raise ArchiveError(f"entry {shown(name)} is not named <20 digits>.<extension>")
    key = int(match[1])
    if key > MAX_KEY:
        raise ArchiveError(f"entry {shown(name)} has a key above {MAX_KEY}")
    return key, match[2].decode("utf-8", "surrogateescape")


def shown(name: bytes) -> str:
    """A name for a message: on one line, quoted, and not endless."""
    text = name.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 100 else text[:97] + "...")
