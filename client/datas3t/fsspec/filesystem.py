"""The file system `datas3t://` of fsspec. It is read only."""

import errno
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from operator import index as integer
from typing import Any, Literal, NoReturn

import numpy as np
from fsspec.spec import AbstractFileSystem

from datas3t.client import Client, Datas3t, InvalidArgument, NotFound, OpenDatapoint
from datas3t.fsspec.answers import Info, OnError, as_asked, file, folder, missing, not_found, raise_first, read_only
from datas3t.fsspec.paths import Place, folders, parse

_LISTED_TOGETHER = 65_536  # files


class _Handles:
    """A client and its handles, which file systems with the same options share: fsspec makes one for each thread."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.by_name: dict[str, Datas3t] = {}

    def of(self, name: str) -> Datas3t:
        """Return the handle of a datas3t."""
        return self.by_name.setdefault(name, self.client.datas3t(name))


_shared: dict[tuple[object, ...], _Handles] = {}
_MAX_SHARED = 32


class Datas3tFileSystem(AbstractFileSystem):
    """datas3ts as folders, and datapoints as files in them (docs/fsspec.md).

    Of `photos/00000000000000000042.jpg` the zeros and the extension may be left out. A file system sees the datapoints
    that there are at its first look, until `invalidate_cache`.

    Args:
        server_url: The server's address. None: the environment variable DATAS3T_SERVER_URL, as for `Client`. (It is not
            called `url`, because functions of fsspec that pass options on have an argument of that name.)
        partition: List a datas3t as folders of so many keys each. None: as one folder of all files.
        verify: Whether contents that are read whole are compared with their checksums.
        cache_dir: The folder in which indices and checksums are kept, as for `Client`.
        **options: Those of all file systems of fsspec, such as `use_listings_cache`.

    Example:
        >>> fs = fsspec.filesystem("datas3t", server_url="http://localhost:8765")
        >>> fs.cat(["photos/7", "photos/42.jpg"])
    """

    protocol = "datas3t"
    root_marker = ""

    def __init__(
        self,
        server_url: str | None = None,
        *,
        partition: int | None = None,
        verify: bool = True,
        cache_dir: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if partition is not None and integer(partition) < 1:
            raise InvalidArgument(f"partition must be at least 1, but is {partition}")
        self._partition = partition
        client = Client(server_url, verify=verify, cache_dir=cache_dir)
        which = client.url, verify, str(client.cache_dir)
        if which not in _shared and len(_shared) >= _MAX_SHARED:
            _shared.clear()
        self._handles = _shared.setdefault(which, _Handles(client))

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        stripped = super()._strip_protocol(path)
        return stripped.strip("/") if isinstance(stripped, str) else stripped

    @property
    def fsid(self) -> str:
        """What this file system is: the same for the same server."""
        return f"datas3t-{self._handles.client.url}"

    # What there is

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forget listings, and see what was uploaded and deleted since."""
        super().invalidate_cache(path)
        name = "" if path is None else parse(self._strip_protocol(path)).datas3t
        for listed in list(self.dircache):
            if not name or listed.partition("/")[0] == name:
                self.dircache.pop(listed, None)
        for known in list(self._handles.by_name):
            if not name or known == name:
                self._handles.by_name[known].refresh()

    def ls(self, path: str, detail: bool = True, refresh: bool = False, **kwargs: Any) -> list[Any]:
        """List the datas3ts, or the files or folders of one.

        Args:
            path: Their folder.
            detail: Whether dictionaries, as `info` returns, are listed, and not paths alone.
            refresh: Whether to look again.
            **kwargs: Ignored.

        Raises:
            FileNotFoundError: It does not exist.
        """
        path = self._strip_protocol(path)
        if refresh:
            self.invalidate_cache(path)
        found = self._listed(parse(path))
        return found if detail else [each["name"] for each in found]

    def _listed(self, place: Place) -> list[Info]:
        if not place.datas3t:
            return [folder(each.name) for each in self._handles.client.list_datas3ts()]
        if place.key is not None:
            return [self._info_of(place)]
        if place.path in self.dircache:
            listed: list[Info] = self.dircache[place.path]
            return listed
        with missing(place.path):
            handle = self._handle(place)
            keys = handle.keyset.within(place.first, place.last)
        if place.is_range and not keys:
            raise not_found(place.path)
        if self._partition and not place.is_range:
            return [folder(f"{place.path}/{name}") for name in folders(keys, self._partition)]
        found: list[Info] = []
        for start in range(0, len(keys), _LISTED_TOGETHER):
            some = keys[start : start + _LISTED_TOGETHER].take(np.arange(min(_LISTED_TOGETHER, len(keys) - start)))
            with missing(place.path):
                found += (file(place.path, *each) for each in handle.describe(some.tolist()))
        self.dircache[place.path] = found
        return found

    def info(self, path: str, **kwargs: Any) -> Info:
        """Return what is known of a path: `name`, `size`, `type`; of a file also `key`, `datarange_id` and `etag`.

        No content is read. `datarange_id` and `etag` are those of the archive, which aggregation replaces.

        Raises:
            FileNotFoundError: It does not exist.
        """
        return self._info_of(parse(self._strip_protocol(path)))

    def _info_of(self, place: Place) -> Info:
        if place.key is not None:
            with missing(place.path):
                (info,) = self._handle(place).describe([place.key])
            if not place.fits(info.name):
                raise not_found(place.path)
            return file(place.parent, *info)
        if place.datas3t:
            with missing(place.path):
                keys = self._handle(place).keyset
            if place.is_range and not keys.within(place.first, place.last):
                raise not_found(place.path)
        return folder(place.path)

    def modified(self, path: str) -> datetime:
        """Return a time in 1970 that is another one whenever another datarange holds the file.

        The catalogue has no times. Caches, such as DuckDB's, compare this one to see whether a file changed.
        """
        return datetime.fromtimestamp(0, UTC) + timedelta(seconds=self.info(path).get("datarange_id", 0))

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Return whether a path exists. An error is raised if that cannot be found out."""
        return self._type(path) is not None

    def isfile(self, path: str) -> bool:
        """Return whether a path is a file. Raise as `exists` does."""
        return self._type(path) == "file"

    def isdir(self, path: str) -> bool:
        """Return whether a path is a folder. Raise as `exists` does."""
        return self._type(path) == "directory"

    def _type(self, path: str) -> str | None:
        try:
            return str(self.info(path)["type"])
        except FileNotFoundError:
            return None

    # Contents

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """Return the content of a file, or a part of it; negative places count from its end.

        A whole content is compared with its checksum.

        Raises:
            FileNotFoundError: It does not exist.
        """
        if start is None and end is None:
            (found,) = self._contents([path]).values()
        else:
            (found,) = self.cat_ranges([path], [start], [end], on_error="raise")
        assert isinstance(found, bytes)
        return found

    def cat(
        self, path: str | list[str], recursive: bool = False, on_error: OnError = "raise", **kwargs: Any
    ) -> bytes | dict[str, bytes | Exception]:
        """Return the content of a file, or a dictionary of those of many, which few requests fetch.

        Args:
            path: A path, one with wildcards, or a list of them.
            recursive: Whether folders stand for all files in them.
            on_error: What to do about files that cannot be read: "raise", "return" the error in the place of the
                content, or "omit" them.
            **kwargs: Ignored.

        Raises:
            FileNotFoundError: A file does not exist, and `on_error` is "raise".
        """
        paths = self.expand_path(path, recursive=recursive)
        if isinstance(path, str) and paths == [self._strip_protocol(path)] and not recursive:
            return self.cat_file(path)
        return self._contents([each for each in paths if not recursive or not self.isdir(each)], on_error)

    def _contents(self, paths: Iterable[str], on_error: OnError = "raise") -> dict[str, bytes | Exception]:
        found: dict[str, bytes | Exception] = {}

        def read(handle: Datas3t, places: list[Place]) -> None:
            keys = [place.key for place in places if place.key is not None]
            for place, datapoint in zip(places, handle.datapoints(keys, missing="none"), strict=True):
                lost = datapoint is None or not place.fits(datapoint.name)
                found[place.path] = not_found(place.path) if lost else datapoint.content  # type: ignore[union-attr]

        found.update(self._each(paths, read))
        return as_asked(found, on_error)

    def cat_ranges(
        self,
        paths: list[str],
        starts: int | Sequence[int | None] | None,
        ends: int | Sequence[int | None] | None,
        max_gap: int | None = None,
        on_error: Literal["raise", "return"] = "return",
        **kwargs: Any,
    ) -> list[bytes | Exception]:
        """Return parts of files, in the order of `paths`. Neighbouring parts are fetched together.

        Args:
            paths: The paths; the same one may occur several times.
            starts: The first byte of each part, or of all; None is the start of a file.
            ends: The byte behind each part, or behind all; None is the end of a file.
            max_gap: Ignored: which parts are fetched together follows from what requests cost.
            on_error: Whether the error of a part takes its place, or is raised.
            **kwargs: Ignored.
        """
        if not isinstance(paths, list):
            raise TypeError("paths must be a list")
        all_starts = starts if isinstance(starts, Sequence) else [starts] * len(paths)
        all_ends = ends if isinstance(ends, Sequence) else [ends] * len(paths)
        if not len(paths) == len(all_starts) == len(all_ends):
            raise ValueError("paths, starts and ends must have the same length")
        parts: dict[str, list[int]] = {}
        for number, path in enumerate(paths):
            parts.setdefault(self._strip_protocol(path), []).append(number)
        found: list[bytes | Exception] = [b""] * len(paths)

        def read(handle: Datas3t, places: list[Place]) -> None:
            wanted: list[tuple[int, int, int]] = []
            numbers: list[int] = []
            infos = handle.describe([place.key for place in places if place.key is not None])
            for place, info in zip(places, infos, strict=True):
                for number in parts[place.path]:
                    if not place.fits(info.name):
                        found[number] = not_found(place.path)
                        continue
                    start, end, _ = slice(all_starts[number], all_ends[number]).indices(info.size)
                    wanted.append((info.key, start, max(start, end)))
                    numbers.append(number)
            for number, content in zip(numbers, handle.read_many(wanted), strict=True):
                found[number] = content

        for path, error in self._each(parts, read).items():
            for number in parts[path]:
                found[number] = error
        if on_error == "raise":
            raise_first(found)
        return found

    def _each(self, paths: Iterable[str], read: Callable[[Datas3t, list[Place]], None]) -> dict[str, Exception]:
        """Call `read` with the existing files of each datas3t, and return the errors of the others by their paths."""
        failed: dict[str, Exception] = {}
        files: dict[str, list[Place]] = {}
        for path in dict.fromkeys(map(self._strip_protocol, paths)):
            try:
                place = parse(path)
                if place.key is None:
                    raise self._no_file(place)
                files.setdefault(place.datas3t, []).append(place)
            except OSError as error:
                failed[path] = error
        for places in files.values():
            handle = self._handle(places[0])
            try:
                existing = [place for place in places if place.key in handle]
                failed |= {place.path: not_found(place.path) for place in places if place.key not in handle}
                read(handle, existing)
            except NotFound:  # the datas3t does not exist, or a datapoint was deleted just now
                failed |= {place.path: not_found(place.path) for place in places}
            except Exception as error:
                failed |= {place.path: error for place in places}
        return failed

    def _open(self, path: str, mode: str = "rb", block_size: int | str | None = None, **kwargs: Any) -> OpenDatapoint:
        """Open a file for reading. `block_size` is how many bytes are read ahead."""
        if mode != "rb":
            raise read_only(path)
        place = parse(path)
        if place.key is None:
            raise self._no_file(place)
        ahead = {"block_size": block_size} if isinstance(block_size, int) and block_size > 0 else {}
        with missing(path):
            opened = self._handle(place).open(place.key, **ahead)
        if not place.fits(opened.name):
            raise not_found(path)
        return opened

    def _no_file(self, place: Place) -> IsADirectoryError:
        self._info_of(place)  # raises FileNotFoundError if there is no folder either
        return IsADirectoryError(errno.EISDIR, "this is a folder, not a file", place.path)

    def _handle(self, place: Place) -> Datas3t:
        return self._handles.of(place.datas3t)

    # What is refused

    def sign(self, path: str, expiration: int = 100, **kwargs: Any) -> NoReturn:
        """Refuse: S3 signs objects, and an archive holds the neighbours of a file as well."""
        raise NotImplementedError(
            "a signed URL would be that of a whole archive, with other files in it; `presign_download` of the client "
            "returns it with the range of bytes"
        )

    def _refuse(self, path: Any = "", *args: Any, **kwargs: Any) -> None:
        raise read_only(path)

    mkdir = makedirs = rmdir = _rm = rm_file = rm = cp_file = mv = touch = pipe_file = put_file = _refuse
