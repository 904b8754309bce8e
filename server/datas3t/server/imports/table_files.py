"""The table files that an import finds: those of a page are checked, and then added in one transaction.

Files of a table may overlap, so all that are whole get a row. Their counters decide which rows count, as before.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from datas3t.archive import names
from datas3t.archive.names import TableFileName
from datas3t.server.db import datas3ts, imported_table_files, keys_to_delete, pool
from datas3t.server.db.s3_buckets import S3Bucket
from datas3t.server.errors import Failure
from datas3t.server.imports.listing import Skipped
from datas3t.server.imports.rows import other_bucket_reason
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket, Listed, ObjectChanged, ObjectMissing, Piece

_MAGIC = b"PAR1"  # the first and the last bytes of a Parquet file
_MIN_SIZE = 12  # bytes of a Parquet file
_MAX_ATTEMPTS = 5  # at a page, if files are removed during each of them

_File = tuple[TableFileName, Listed]


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a page: its objects, the tables that got files, and what was skipped.

    `is_new` is whether the datas3t was added.
    """

    seen: int
    tables: Sequence[str] = ()
    skipped: Sequence[Skipped] = ()
    is_new: bool = False


def greatest(bucket: Bucket, name: str) -> tuple[int, int]:
    """Return the greatest counter of a datas3t's table files in a bucket, or 0, and their greatest last key, or -1."""
    counter, last_key = 0, -1
    for page in bucket.objects(names.tables_prefix(name)):
        for each in page:
            if file := names.parse_table_file(each.key):
                counter, last_key = max(counter, file.counter), max(last_key, file.last)
    return counter, last_key


def run(resources: Resources, row: S3Bucket, bucket: Bucket, name: str) -> Iterator[Imported]:
    """Import the table files of a datas3t, and yield what became of each page."""
    for page in bucket.objects(names.tables_prefix(name)):
        parsed = [(names.parse_table_file(each.key), each) for each in page]
        of_page = _Page(resources, row, bucket, name, [(file, each) for file, each in parsed if file is not None])
        of_page.skipped += [
            Skipped(each.key, "its name is not that of a table's file")
            for file, each in parsed
            if file is None and each.key.endswith(".parquet")
        ]
        yield of_page.run(len(page))


@dataclass
class _Page:
    """The table files of a page of the listing, and what was skipped so far."""

    resources: Resources
    row: S3Bucket
    bucket: Bucket
    name: str
    files: Sequence[_File]
    skipped: list[Skipped] = field(default_factory=list)

    def run(self, seen: int) -> Imported:
        """Check the files and add those that have no row yet; again from the start if files were removed meanwhile."""
        if not self.files:
            return Imported(seen, skipped=self.skipped)
        skipped = list(self.skipped)
        for _ in range(_MAX_ATTEMPTS):
            self.skipped = list(skipped)
            added = self._attempt()
            if added is not None:
                tables, is_new = added
                return Imported(seen, sorted(tables), self.skipped, is_new)
        reason = f"files were removed during each of {_MAX_ATTEMPTS} attempts; import again"
        return Imported(seen, skipped=[*skipped, *(Skipped(each.key, reason) for _, each in self.files)])

    def _attempt(self) -> tuple[set[str], bool] | None:
        """Return the tables that got files, and whether the datas3t was added; None if something was removed."""
        counter, last_key = max(file.counter for file, _ in self.files), max(file.last for file, _ in self.files)
        with pool.connection(self.resources.pool) as conn:
            removals = datas3ts.removals(conn, self.name)
            datas3t = datas3ts.by_name(conn, self.name)
            if datas3t is not None and datas3t.bucket_id != self.row.id:
                self._skip(self.files, other_bucket_reason(self.name))
                return set(), False
            listed = _columns(self.files)
            pending = imported_table_files.pending(conn, datas3t.id, listed) if datas3t else set()
            committed = imported_table_files.committed(conn, datas3t.id, listed) if datas3t else set()
            cleared = imported_table_files.cleared(conn, self.name, self.row.id, listed)
            queued = keys_to_delete.queued(conn, self.row.id, [each.key for _, each in self.files]) | cleared
            is_behind = datas3t is not None and (
                datas3t.upload_counter < counter or datas3ts.next_key(conn, datas3t.id) <= last_key
            )
        self._skip([each for each in self.files if each[1].key in pending], "it belongs to a pending table file")
        self._skip([each for each in self.files if each[1].key in queued - pending], "it is queued for deletion")
        known = committed | pending | queued
        whole = self._whole([each for each in self.files if each[1].key not in known])
        if not whole and not is_behind:
            return set(), False
        with pool.transaction(self.resources.pool, bucket=self.row.name) as conn:
            now = datas3ts.add(conn, self.name, self.row.id, counter, last_key)  # locks it, as every commit does
            if now is None:
                self._skip(whole, other_bucket_reason(self.name))
                return set(), False
            if datas3ts.removals(conn, self.name) != removals:
                return None
            inserted = imported_table_files.insert(conn, now.id, self.row.id, _columns(whole)) if whole else set()
            others = [each for each in whole if each[1].key not in inserted]
            added = imported_table_files.committed(conn, now.id, _columns(others)) if others else set()
        self._skip(
            [each for each in others if each[1].key not in added],
            "another file of its table has its counter, or another call uses it",
        )
        return {file.table for file, each in whole if each.key in inserted}, datas3t is None

    def _whole(self, files: Sequence[_File]) -> list[_File]:
        """Return the files that begin and end as Parquet files, and skip the others."""
        whole = []
        right = self._right_ends([each for _, each in files if each.size >= _MIN_SIZE])
        for file, each in files:
            reason = None if right.get(each.key) == 2 else self._reason(each)
            if reason is None:
                whole.append((file, each))
            else:
                self.skipped.append(Skipped(each.key, reason))
        return whole

    def _right_ends(self, objects: Sequence[Listed]) -> dict[str, int]:
        """Return how many ends of each object are right, as far as S3 responds: many are read at a time."""
        right: dict[str, int] = {}

        def take(key: str, data: bytes) -> None:
            right[key] = right.get(key, 0) + (data == _MAGIC)

        ends = ((each.key, piece) for each in objects for piece in _ends(each))
        with suppress(ObjectMissing, ObjectChanged, Failure):
            self.bucket.get_each(ends, take)
        return right

    def _reason(self, each: Listed) -> str | None:
        """Return why an object is no table file, as S3 shows it alone; None if it is one."""
        if each.size < _MIN_SIZE:
            return "it is too small for a Parquet file"
        try:
            ends = [self.bucket.get(each.key, end.start, end.stop, etag=each.etag) for end in _ends(each)]
        except (ObjectMissing, ObjectChanged):
            return "it was deleted or written again while it was checked; import again"
        return None if ends == [_MAGIC, _MAGIC] else "it does not begin and end as a Parquet file"

    def _skip(self, files: Sequence[_File], reason: str) -> None:
        self.skipped += [Skipped(each.key, reason) for _, each in files]


def _ends(each: Listed) -> tuple[Piece, Piece]:
    size = len(_MAGIC)
    return Piece(each.key, 0, size, each.etag), Piece(each.key, each.size - size, each.size, each.etag)


def _columns(files: Sequence[_File]) -> dict[str, list[int] | list[str]]:
    """Return the columns of a page, as the statements take them."""
    return {
        "keys": [each.key for _, each in files],
        "tables": [file.table for file, _ in files],
        "firsts": [file.first for file, _ in files],
        "lasts": [file.last for file, _ in files],
        "counters": [file.counter for file, _ in files],
        "sizes": [each.size for _, each in files],
        "etags": [each.etag for _, each in files],
    }
