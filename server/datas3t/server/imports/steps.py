"""An import, step by step: one transaction for each datas3t in the bucket, and none that is open while S3 is called."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from datas3t.archive import names
from datas3t.server import buckets
from datas3t.server.call import in_current_call
from datas3t.server.db import datas3ts, pool
from datas3t.server.db.s3_buckets import S3Bucket
from datas3t.server.imports import table_files
from datas3t.server.imports.choice import Chooser, Chosen
from datas3t.server.imports.listing import Found, Listing, OutOfOrderError, Skipped, in_order
from datas3t.server.imports.rows import (
    Batches,
    RemovedSinceError,
    commit,
    data_keys,
    other_bucket_reason,
    reasons_left_out,
    remove_rows_without_objects,
)
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Listed

_ROOT = "datas3t/"
_ARCHIVES_PER_STEP = 256  # that are checked before the next step shows that the import is alive
_ALIVE_SECONDS = 30.0  # the longest time without a step, while a group of archives is checked
_SKIPPED_PER_STEP = 500  # so that a step's message stays well below 1 MiB
_MAX_LISTINGS = 5  # of a datas3t, if dataranges are removed during each of them


@dataclass(frozen=True, slots=True)
class Step:
    """A part of an import's result; all steps together are the result.

    `seen` is the number of objects that were listed so far. `imported_tables` are "<datas3t>/<table>". `imported_count`
    is set in the last step.
    """

    seen: int
    imported: Sequence[str] = ()
    imported_tables: Sequence[str] = ()
    skipped: Sequence[Skipped] = ()
    imported_count: int = 0


def run(resources: Resources, bucket_name: str, matches: Callable[[str], bool] = lambda _: True) -> Iterator[Step]:
    """Import all archives in a bucket that have no row yet; yield the result in steps.

    Datas3ts whose names do not match are left out, as if the bucket had no objects of them.

    A repeated import changes nothing. One that is stopped or fails keeps the datas3ts that it has finished.
    """
    row = buckets.find(resources, bucket_name, "bucket_name")
    with ThreadPoolExecutor(1, thread_name_prefix="import") as thread, Chooser(resources, row) as chooser:
        yield from _Import(resources, row, thread, chooser).run(matches)


class _Import:
    """A running import: the bucket, and what was reported so far."""

    def __init__(self, resources: Resources, row: S3Bucket, thread: ThreadPoolExecutor, chooser: Chooser) -> None:
        self._resources = resources
        self._row = row
        self._bucket = buckets.open_bucket(resources, row)
        self._thread = thread
        self._chooser = chooser
        self._seen = 0
        self._imported = 0
        self._reported: set[str] = set()  # keys of skipped objects of the present datas3t
        self._tables: set[str] = set()  # its tables that were reported

    def run(self, matches: Callable[[str], bool]) -> Iterator[Step]:
        for page in self._bucket.folders(_ROOT):
            for folder in page:
                self._reported, self._tables = set(), set()
                name = folder.removeprefix(_ROOT).removesuffix("/")
                if not matches(name):
                    continue
                yield from self._import_folder(name)
                yield from self._import_tables(name)
        yield Step(self._seen, imported_count=self._imported)

    def _import_folder(self, name: str) -> Iterator[Step]:
        """List and import a datas3t, again from the start if dataranges were removed during it."""
        ordered = True
        for _ in range(_MAX_LISTINGS):
            try:
                yield from self._list_and_import(name, ordered=ordered)
            except RemovedSinceError:
                continue
            except OutOfOrderError:
                ordered = False
                continue
            return
        reason = f"dataranges were removed during each of {_MAX_LISTINGS} attempts; import again"
        yield from self._report([Skipped(names.prefix(name), reason)])

    def _list_and_import(self, name: str, *, ordered: bool) -> Iterator[Step]:
        """Check the archives of each page while the next page is listed, and add all rows in one transaction."""
        with pool.connection(self._resources.pool) as conn:
            removals = datas3ts.removals(conn, name)
        listing, batches = Listing(name), Batches()
        under_way: Future[Chosen] | None = None
        for found in self._found(name, listing, ordered):
            if isinstance(found, Step):
                yield found
                continue
            yield from self._report(found.unrecognized)
            for part in found.parts(_ARCHIVES_PER_STEP):
                yield from self._collect(under_way, batches)
                under_way = self._thread.submit(in_current_call(self._chooser.choose), name, part)
        yield from self._collect(under_way, batches)
        if listing.counter:
            yield from self._add_rows(name, listing, batches, removals, ordered)

    def _found(self, name: str, listing: Listing, ordered: bool) -> Iterator[Step | Found]:
        """Yield what is complete of the listing, with a step before that of each page."""
        whole: list[Sequence[Listed]] = []
        for page in self._bucket.objects(names.prefix(name)):
            self._seen += len(page)
            if ordered:
                found = listing.add(page)
                yield Step(self._seen)
                yield found
            else:
                whole.append(page)
                yield Step(self._seen)
        yield listing.add(in_order(whole))
        yield listing.finish()

    def _collect(self, under_way: "Future[Chosen] | None", batches: Batches) -> Iterator[Step]:
        """Wait for archives that are checked, and take the outcome."""
        if under_way is None:
            return
        while not wait([under_way], _ALIVE_SECONDS).done:
            yield Step(self._seen)
        chosen = under_way.result()
        batches.add(chosen.checked)
        yield Step(self._seen)
        yield from self._report(chosen.skipped)

    def _add_rows(self, name: str, listing: Listing, batches: Batches, removals: int, ordered: bool) -> Iterator[Step]:
        counter, last_key = listing.counter, listing.last_key
        with pool.connection(self._resources.pool) as conn:
            datas3t = datas3ts.by_name(conn, name)
            is_behind = (
                datas3t is not None
                and datas3t.bucket_id == self._row.id
                and (datas3t.upload_counter < counter or datas3ts.next_key(conn, datas3t.id) <= last_key)
            )
        if not batches.count and not is_behind:
            return  # there is nothing to change
        if datas3t is None:  # whoever uses it at once gets counters and keys above its table files, which follow
            counter, last_key = map(max, (counter, last_key), table_files.greatest(self._bucket, name))
        packed = batches.packed()
        datas3t, left_out = commit(self._resources, self._row, name, counter, last_key, packed, removals)
        if datas3t is None:
            for batch in packed:
                yield from self._report([Skipped(key, other_bucket_reason(name)) for key in data_keys(batch)])
            return
        yield from self._report(list(reasons_left_out(self._resources, self._row, datas3t, left_out)))
        added = batches.count - len(left_out)
        if added:
            removed = remove_rows_without_objects(
                self._resources, self._row, self._bucket, datas3t, packed, left_out, ordered=ordered
            )
            yield from self._report(removed)
            added -= len(removed)
        if added:
            self._imported += 1
            yield Step(self._seen, imported=[name])

    def _import_tables(self, name: str) -> Iterator[Step]:
        for imported in table_files.run(self._resources, self._row, self._bucket, name):
            self._seen += imported.seen
            tables = [f"{name}/{table}" for table in imported.tables if table not in self._tables]
            self._tables.update(imported.tables)
            self._imported += imported.is_new
            yield Step(self._seen, imported=[name] if imported.is_new else [], imported_tables=tables)
            yield from self._report(imported.skipped)

    def _report(self, skipped: Sequence[Skipped]) -> Iterator[Step]:
        """Yield skipped objects, each of them once, even if the bucket is listed again."""
        skipped = [each for each in skipped if each.key not in self._reported]
        self._reported.update(each.key for each in skipped)
        for start in range(0, len(skipped), _SKIPPED_PER_STEP):
            yield Step(self._seen, skipped=skipped[start : start + _SKIPPED_PER_STEP])
