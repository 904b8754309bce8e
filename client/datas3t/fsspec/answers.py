"""What fsspec is told: of files and folders, and of what cannot be done."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from errno import ENOENT, EROFS
from os import strerror
from typing import Any, Literal, TypeAlias

from datas3t.client import NotFound

OnError: TypeAlias = Literal["raise", "return", "omit"]
Info: TypeAlias = dict[str, Any]

_READ_ONLY = "datas3t:// is read only; append with `datas3t push`, Client.writer or upload_tar"


def not_found(path: str) -> FileNotFoundError:
    """Return the error for a path that does not exist."""
    return FileNotFoundError(ENOENT, strerror(ENOENT), path)


def read_only(path: Any) -> OSError:
    """Return the error for a call that would write."""
    return OSError(EROFS, _READ_ONLY, path if isinstance(path, str) else None)


def folder(path: str) -> Info:
    """Return what fsspec is told of a folder."""
    return {"name": path, "size": 0, "type": "directory"}


def file(parent: str, key: int, name: str, size: int, datarange_id: int, etag: str) -> Info:
    """Return what fsspec is told of a file."""
    return {
        "name": f"{parent}/{name}", "size": size, "type": "file", "key": key, "datarange_id": datarange_id, "etag": etag
    }  # fmt: skip


@contextmanager
def missing(path: str) -> Iterator[None]:
    """Raise FileNotFoundError where a datas3t or a datapoint does not exist."""
    try:
        yield
    except NotFound:
        raise not_found(path) from None


def as_asked(found: dict[str, bytes | Exception], on_error: OnError) -> dict[str, bytes | Exception]:
    """Return contents and errors as `on_error` says."""
    if on_error == "raise":
        raise_first(found.values())
    if on_error == "omit":
        return {path: each for path, each in found.items() if isinstance(each, bytes)}
    return found


def raise_first(found: Iterable[bytes | Exception]) -> None:
    """Raise the first error, if there is one."""
    for each in found:
        if isinstance(each, Exception):
            raise each
