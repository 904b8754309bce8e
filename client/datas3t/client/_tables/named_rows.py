"""Rows of the table `files` for an archive, out of the list of names that `pack` writes."""

import hashlib
import json

import numpy as np

from datas3t.archive import checksums, index, paths
from datas3t.archive.tar import Contents
from datas3t.client._calls.session import Session
from datas3t.client._tables.files_rows import files_rows, send_rows
from datas3t.client._tables.schemas import FILES
from datas3t.client.errors import FileError, InvalidArgument

_MAX_LINE = 1 << 20  # bytes


class NamedRows:
    """The rows of one archive.

    Args:
        session: The settings and the connection.
        name: The datas3t.
        path: The list: a JSON object with `key` and `path` on a line for each datapoint.
        contents: What is in the archive.

    Raises:
        FileError: The list cannot be read.
        InvalidArgument: It has no name for a datapoint, or names others.
    """

    def __init__(self, session: Session, name: str, path: str, contents: Contents) -> None:
        self._session = session
        self._name = name
        self._paths = _paths(path, contents)
        self._contents = contents

    @property
    def digest(self) -> str:
        """What is the same for the same names."""
        return hashlib.sha256("\n".join(self._paths).encode()).hexdigest()

    def send(self) -> int:
        """Put the rows into S3, and return the id of their file."""
        contents = self._contents
        _, _, sizes = index.columns(contents.index)
        keys = np.arange(contents.first_key, contents.last_key + 1)
        crcs = np.frombuffer(checksums.decode(contents.checksums), np.uint32)
        return send_rows(self._session, self._name, FILES, files_rows(keys, self._paths, sizes, None, crcs))


def _paths(path: str, contents: Contents) -> list[str]:
    """Return the paths of an archive's datapoints, in the order of their keys."""
    found: list[str | None] = [None] * contents.count
    try:
        with open(path, "rb") as lines:
            number = 0
            while line := lines.readline(_MAX_LINE):
                number += 1
                key, text = _parsed(line, f"{path}, line {number}")
                if not contents.first_key <= key <= contents.last_key:
                    raise InvalidArgument(
                        f"{path} names datapoint {key}, which is not in the archive; give its own list"
                    )
                if found[key - contents.first_key] is not None:
                    raise InvalidArgument(f"{path} names datapoint {key} twice")
                found[key - contents.first_key] = text
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from None
    named = [text for text in found if text is not None]
    if len(named) < contents.count:
        raise InvalidArgument(f"{path} has no name for datapoint {contents.first_key + found.index(None)}")
    return named


def _parsed(line: bytes, where: str) -> tuple[int, str]:
    """Return the key and the path on a line."""
    try:
        entry = json.loads(line)
        key, path = entry["key"], entry["path"]
        if not isinstance(key, int) or not isinstance(path, str) or not path.strip("/"):
            raise ValueError
        return key, paths.encode(path.lstrip("/"))
    except (ValueError, TypeError, KeyError):
        message = f"{where} is no JSON object with the key and the path of a datapoint"
        raise InvalidArgument(message) from None
