"""The rows that an import adds to one datas3t, in one transaction, and those that it removes again."""

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from datas3t.archive import names
from datas3t.server.db import datas3ts, imported, intents, keys_to_delete, pool
from datas3t.server.db.datas3ts import Datas3t
from datas3t.server.db.s3_buckets import S3Bucket
from datas3t.server.imports.archives import CheckedArchive
from datas3t.server.imports.catalogue import Catalogue
from datas3t.server.imports.listing import Archive, Skipped
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket, ObjectInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BATCH = 5_000  # rows in a statement: about 1 MB
_KEYS_AT_ONCE = 1_000  # of archives whose reasons are looked up
_COLUMNS = (
    *("firsts", "lasts", "data_keys", "index_keys", "sizes", "entries_sizes"),
    *("data_etags", "index_etags", "checksums_etags"),
)


class RemovedSinceError(Exception):
    """Dataranges were removed since the bucket was listed, so it has to be listed again."""


class Batches:
    """The rows of archives, in key order, in batches that are ready for the database: about 100 bytes for each row."""

    def __init__(self) -> None:
        self.count = 0
        self._packed: list[bytes] = []
        self._open: list[tuple[int | str | None, ...]] = []

    def add(self, chosen: Mapping[Archive, CheckedArchive]) -> None:
        """Add archives, which come after those that were added before."""
        for archive, checked in chosen.items():
            keys, sizes = (archive.key, archive.index_key), (archive.data.size, checked.entries_size)
            etags = archive.data.etag, checked.index_etag, checked.checksums_etag
            self._open.append((archive.first, archive.last, *keys, *sizes, *etags))
            self.count += 1
            if len(self._open) == _BATCH:
                self._pack()

    def packed(self) -> list[bytes]:
        """Return all batches."""
        if self._open:
            self._pack()
        return self._packed

    def _pack(self) -> None:
        columns = dict(zip(_COLUMNS, zip(*self._open, strict=True), strict=True))
        self._packed.append(zlib.compress(json.dumps(columns).encode(), 1))
        self._open = []


def objects_of(batch: bytes) -> dict[str, list[str]]:
    """Return the keys of the objects that each row of a batch names, by that of its archive."""
    columns = json.loads(zlib.decompress(batch))
    rows = zip(columns["data_keys"], columns["index_keys"], columns["checksums_etags"], strict=True)
    return {key: [key, index, *([names.checksums_key(key)] if etag else ())] for key, index, etag in rows}


def data_keys(batch: bytes) -> list[str]:
    """Return the object keys of the archives of a batch."""
    keys: list[str] = json.loads(zlib.decompress(batch))["data_keys"]
    return keys


def other_bucket_reason(name: str) -> str:
    """Return why objects are skipped whose datas3t is on another bucket."""
    return f"datas3t {name!r} is on another bucket configuration"


def commit(
    resources: Resources,
    bucket: S3Bucket,
    name: str,
    counter: int,
    last_key: int,
    batches: Sequence[bytes],
    removals: int,
) -> tuple[Datas3t | None, list[str]]:
    """Add the datas3t, raise its upload counter to `counter` and its next key above `last_key`, and add rows.

    Nothing is computed while the datas3t is locked: the database leaves out what must not get a row.

    Returns:
        The datas3t, or None if it is on another bucket; and the keys of the archives that were not added.

    Raises:
        RemovedSinceError: Dataranges were removed more than `removals` times, so a listed object may be gone. Nothing
            was changed.
    """
    left_out: list[str] = []
    with pool.transaction(resources.pool, bucket=bucket.name) as conn:
        datas3t = datas3ts.add(conn, name, bucket.id, counter, last_key)  # locks the datas3t, as every commit does
        if datas3t is None:
            return None, []
        if datas3ts.removals(conn, name) != removals:
            raise RemovedSinceError
        for batch in batches:
            columns = json.loads(zlib.decompress(batch))
            left_out += imported.insert(conn, datas3t.id, bucket.id, columns)
    return datas3t, left_out


def reasons_left_out(
    resources: Resources, bucket: S3Bucket, datas3t: Datas3t, left_out: Sequence[str]
) -> Iterator[Skipped]:
    """Yield why archives were not added. Those that another import has added are not skipped."""
    for start in range(0, len(left_out), _KEYS_AT_ONCE):
        archives = [_archive(key) for key in left_out[start : start + _KEYS_AT_ONCE]]
        with pool.connection(resources.pool) as conn:
            catalogue = Catalogue(conn, bucket.id, datas3t.name, datas3t, archives)
        for archive in archives:
            if not catalogue.has_row(archive):
                reason = catalogue.reason_to_skip(archive)
                yield Skipped(archive.key, reason or "it overlapped a datarange that was deleted since; import again")


def remove_rows_without_objects(
    resources: Resources,
    bucket: S3Bucket,
    s3: Bucket,
    datas3t: Datas3t,
    batches: Sequence[bytes],
    left_out: Sequence[str],
    *,
    ordered: bool,
) -> list[Skipped]:
    """Remove those of the added rows whose objects are not in the bucket; return what was skipped.

    Between the check of an archive and its row another import may have added it, a user may have deleted it, and the
    reaper may have removed its objects, which leaves no trace in the database. So the bucket is listed once more. An
    object that is listed after its row was written stays: it was not queued for deletion when the row was written.

    If only the index is left, this import may have written it after the reaper had deleted it, so it is queued for
    deletion. Nothing else is deleted here. `ordered` is whether the store lists the objects in order.
    """
    skipped: list[Skipped] = []
    not_added = set(left_out)
    prefix = names.prefix(datas3t.name)
    marks = None if ordered else _Marks.of_listed(s3, prefix, batches)
    for batch in batches:
        objects = {key: keys for key, keys in objects_of(batch).items() if key not in not_added}
        wanted = {each for keys in objects.values() for each in keys}
        listed = _listed(s3, prefix, wanted) if marks is None else marks.marked(wanted)
        missing = [key for key, keys in objects.items() if not listed.issuperset(keys)]
        if missing:
            skipped += _remove(resources, bucket, datas3t, missing, listed)
    return skipped


def _listed(s3: Bucket, prefix: str, keys: set[str]) -> set[str]:
    """Return those of the keys that are in the bucket, which lists in order; the prefix is that of all of them."""
    first, last = min(keys, default=""), max(keys, default="")
    listed: set[str] = set()
    for page in s3.objects(prefix, start_after=first[:-1]):
        listed.update(each.key for each in page if each.key in keys)
        if page and page[-1].key >= last:
            break
    return listed


class _Marks:
    """Which of many object keys are in a bucket that does not list in order, in 9 bytes for each key.

    It is listed once for all batches. Of a key its hash of 64 bits is kept, which Python makes with a random secret.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        import numpy as np  # noqa: PLC0415 - importing it takes 0.2 s, which other calls do not need

        self._hashes = np.sort(np.fromiter(map(hash, keys), np.int64))
        self._is_marked = np.zeros(len(self._hashes), np.bool_)

    @classmethod
    def of_listed(cls, s3: Bucket, prefix: str, batches: Sequence[bytes]) -> "_Marks":
        """Mark those of the objects that the rows of all batches name that are in the bucket."""
        marks = cls(key for batch in batches for keys in objects_of(batch).values() for key in keys)
        for page in s3.objects(prefix):
            at, is_known = marks._places([each.key for each in page])
            marks._is_marked[at[is_known]] = True
        return marks

    def marked(self, keys: Iterable[str]) -> set[str]:
        """Return those of the keys that are marked."""
        keys = list(keys)
        at, is_known = self._places(keys)
        chosen = is_known & self._is_marked[at]
        return {key for key, is_chosen in zip(keys, chosen.tolist(), strict=True) if is_chosen}

    def _places(self, keys: Sequence[str]) -> "tuple[NDArray[np.intp], NDArray[np.bool_]]":
        """Return where each of the keys is, and whether it is one of those that can be marked."""
        import numpy as np  # noqa: PLC0415 - see `__init__`

        hashes = np.fromiter(map(hash, keys), np.int64)
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        return at, self._hashes[at] == hashes


def _remove(
    resources: Resources,
    bucket: S3Bucket,
    datas3t: Datas3t,
    missing: Sequence[str],
    listed: set[str],
) -> list[Skipped]:
    lone = {key: names.index_key(key) for key in missing if key not in listed}
    with pool.transaction(resources.pool) as conn:
        datas3ts.locked(conn, datas3t.name)  # before dataranges, in the order that all transactions keep
        deleted = imported.delete(conn, datas3t.id, missing)
        intents.cancel_checksums(conn, datas3t.id, resources.put_grace)
        keys_to_delete.queue(conn, bucket.id, list(filter(None, map(lone.get, deleted))))
    resources.deletions.set()

    def reason(key: str) -> str:
        if key not in listed:
            return "it was deleted during the import"
        which = "checksums were" if names.index_key(key) in listed else "index was"
        return f"its {which} deleted during the import; import again"

    return [Skipped(key, reason(key)) for key in deleted]


def _archive(key: str) -> Archive:
    name = names.parse(key)
    assert name is not None
    return Archive(name.datas3t, name.first, name.last, name.counter, ObjectInfo(0, ""), None)
