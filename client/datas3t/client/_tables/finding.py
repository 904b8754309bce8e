"""Datapoints by the names of the files that they were, as the table `files` has them."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from datas3t.archive import paths
from datas3t.client._tables import globs
from datas3t.client._tables.arrow import pa, pc
from datas3t.client._tables.groups import Group
from datas3t.client._tables.merging import merged
from datas3t.client._tables.path_index import PathIndex
from datas3t.client._tables.schemas import FILES_SCHEMA, KEY, PATH
from datas3t.client.errors import InvalidArgument, PathNotFound
from datas3t.client.keyset import KeySet

Name: TypeAlias = str | bytes | os.PathLike[str]
Present: TypeAlias = Callable[[NDArray[np.int64]], NDArray[np.bool_]]

_SCHEMA = pa.schema([FILES_SCHEMA.field(KEY), FILES_SCHEMA.field(PATH)])


def find_all(index: PathIndex, present: Present, name: Name) -> list[int]:
    """Return the keys of all datapoints with a name, descending."""
    path = encoded(name)
    found = _rows(index, index.with_paths([path]), present, lambda column: pc.equal(column, path))
    keys = [key for table in found for key in table.column(KEY).to_pylist()]
    return sorted(keys, reverse=True)


def find_many(index: PathIndex, present: Present, names: Iterable[Name]) -> list[int]:
    """Return the greatest key of each name, in the order of the names.

    Raises:
        PathNotFound: There is no datapoint with a name; the error has the first one.
    """
    wanted = list(names)
    encoded_names = [encoded(name) for name in wanted]
    distinct = pa.array(sorted(set(encoded_names)), pa.string())
    groups = index.with_paths(distinct.to_pylist())
    keys: dict[str, int] = {}
    for table in _rows(index, groups, present, lambda column: pc.is_in(column, value_set=distinct)):
        for path, key in zip(table.column(PATH).to_pylist(), table.column(KEY).to_pylist(), strict=True):
            keys[path] = key  # tables and rows are by key, so the last one is the greatest
    for name, path in zip(wanted, encoded_names, strict=True):
        if path not in keys:
            raise not_found(name)
    return [keys[path] for path in encoded_names]


def paths_of(index: PathIndex, present: Present, wanted: NDArray[np.int64]) -> list[str | None]:
    """Return the name of each key's datapoint, in the order of the keys; None where there is none."""
    ordered = np.unique(wanted)
    ordered = ordered[present(ordered)]
    names: dict[int, str] = {}
    for table in merged(index.with_keys(ordered), _SCHEMA, index.load, _size_of):
        rows = table.filter(pa.array(np.isin(table.column(KEY).to_numpy(), ordered)))
        for key, path in zip(rows.column(KEY).to_pylist(), rows.column(PATH).to_pylist(), strict=True):
            if path is not None:
                names[key] = decoded(path)
    return [names.get(key) for key in wanted.tolist()]


def glob(index: PathIndex, present: Present, pattern: str | bytes) -> KeySet:
    """Return the greatest key of each name that a pattern matches."""
    parsed = globs.parsed(pattern)
    groups = index.with_paths([parsed.prefix]) if parsed.is_literal else index.with_prefix(parsed.prefix)
    regex = rf"(?s)\A(?:{parsed.regex})\z"

    def matches(column: pa.ChunkedArray) -> pa.ChunkedArray:
        try:
            return pc.match_substring_regex(column, regex)
        except pa.ArrowException as error:
            raise InvalidArgument(f"the pattern is too complex: {' '.join(str(error).split())}") from None

    found = list(_rows(index, groups, present, matches))
    if not found:
        return KeySet()
    newest = pa.concat_tables(found).group_by(PATH).aggregate([(KEY, "max")])
    return KeySet(newest.column(f"{KEY}_max").to_numpy())


def not_found(name: Name) -> PathNotFound:
    """Return the error for a name that no datapoint has."""
    text = os.fspath(name)
    shown = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text
    return PathNotFound(f"no datapoint has the path {shown!r}", path=shown)


def encoded(name: Name) -> str:
    """Return the path of a name in the table. Raise InvalidArgument if no file can have it."""
    try:
        return paths.encode(os.fspath(name))
    except paths.PathError as error:
        raise InvalidArgument(str(error)) from None


def decoded(path: str) -> str:
    """Return the name of a path in the table, with bytes that are no UTF-8 as Python has them."""
    return paths.decode(path).decode("utf-8", "surrogateescape") if "%" in path else path


def _rows(
    index: PathIndex,
    groups: Sequence[Group],
    present: Present,
    matches: Callable[[pa.ChunkedArray], pa.ChunkedArray],
) -> Iterator[pa.Table]:
    """Yield the newest rows whose path matches, and whose datapoint is present, by key."""
    for table in merged(groups, _SCHEMA, index.load, _size_of):
        chosen = table.filter(matches(table.column(PATH)))
        if len(chosen):
            mask = present(chosen.column(KEY).to_numpy())
            yield chosen if mask.all() else chosen.filter(pa.array(mask))


def _size_of(group: Group) -> int:
    return 64 * group.rows  # of a key and a path, about
