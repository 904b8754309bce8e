"""Import: the rows that a bucket's objects ask for. One transaction per datas3t, and none is open while S3 is asked.

What may change meanwhile is looked at again under the lock of the datas3t, before its rows are written.
"""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from datas3t.archive import names
from datas3t.server import buckets
from datas3t.server.db import datas3ts, pool
from datas3t.server.db.s3_buckets import S3Bucket
from datas3t.server.imports.cover import cover, overlapped
from datas3t.server.imports.known import Before, Known, before_listing
from datas3t.server.imports.listing import Archive, Listing, Skipped
from datas3t.server.imports.rebuilt_index import Fit, Unfit, check
from datas3t.server.imports.rows import Moved, commit, elsewhere, take_back
from datas3t.server.resources import Resources

THREADS = 16

_ROOT = "datas3t/"
_AT_ONCE = 256  # archives that are checked between two steps
_SKIPPED = 500  # in one step, which is then well below 1 MiB
_TRIES = 5  # of a datas3t whose dataranges are being removed
_CHOICES = 3  # from then on all that is left is checked: many bad archives one over the other take no longer


@dataclass(frozen=True, slots=True)
class Step:
    """What an import has to tell; the steps joined are its result. `seen` is how many objects were listed so far, and
    `imported_count` stands in the last step."""

    seen: int
    imported: Sequence[str] = ()
    skipped: Sequence[Skipped] = ()
    imported_count: int = 0


def run(resources: Resources, bucket_name: str) -> Iterator[Step]:
    """Adds what stands in the bucket and has no row yet. Repeated, it changes nothing."""
    row = buckets.find(resources, bucket_name, "bucket_name")
    with ThreadPoolExecutor(THREADS, thread_name_prefix="import") as threads:
        yield from _Import(resources, row, threads).run()


class _Import:
    def __init__(self, resources: Resources, row: S3Bucket, threads: ThreadPoolExecutor) -> None:
        self._resources = resources
        self._row = row
        self._bucket = buckets.opened(resources, row)
        self._threads = threads
        self._seen = 0
        self._imported = 0
        self._left_out: set[str] = set()

    def run(self) -> Iterator[Step]:
        for page in self._bucket.folders(_ROOT):
            for folder in page:
                yield from self._folder(folder.removeprefix(_ROOT).removesuffix("/"))
        yield Step(self._seen, imported_count=self._imported)

    def _folder(self, name: str) -> Iterator[Step]:
        for _ in range(_TRIES):
            try:
                yield from self._listed(name)
            except Moved:
                continue
            return
        reason = "dataranges are being removed all the time; import again"
        yield from self._told([Skipped(names.prefix(name), reason)])

    def _listed(self, name: str) -> Iterator[Step]:
        with pool.connection(self._resources.pool) as conn:
            before = before_listing(conn, self._row.id, name)
        listing = Listing(name)
        for page in self._bucket.objects(names.prefix(name)):
            listing.take(page)
            self._seen += len(page)
            yield Step(self._seen)
        yield from self._told(listing.strange)
        if listing.counter:
            yield from self._datas3t(name, listing, before)

    def _datas3t(self, name: str, listing: Listing, before: Before) -> Iterator[Step]:
        with pool.connection(self._resources.pool) as conn:
            present = datas3ts.by_name(conn, name)
            known = Known(conn, self._row.id, present, _object_keys(listing), before)
        if present and present.bucket_id != self._row.id:
            yield from self._told([Skipped(key, elsewhere(name)) for key in _object_keys(listing)])
            return
        new, skipped = _sorted_out(listing, known)
        yield from self._told(skipped)
        taken = yield from self._chosen(new)
        if not taken and (present is None or present.upload_counter >= listing.counter):
            return
        added, skipped = commit(self._resources, self._row, name, listing.counter, taken, before)
        yield from self._told(skipped)
        if added:
            added, skipped = take_back(self._resources, self._row, self._bucket, name, added)
            yield from self._told(skipped)
        if added:
            self._imported += 1
            yield Step(self._seen, imported=[name])

    def _chosen(self, candidates: list[Archive]) -> Generator[Step, None, dict[Archive, Fit]]:
        """The cover of the keys by archives that can be read. Only what is chosen is checked, and where that does not
        hold, a new choice is made from the rest."""
        fit: dict[Archive, Fit] = {}
        choices = 0
        while True:
            taken = cover(candidates)
            unchecked = [each for each in (taken if choices < _CHOICES else candidates) if each not in fit]
            if not unchecked:
                break
            choices += 1
            unfit: dict[Archive, str] = {}
            for start in range(0, len(unchecked), _AT_ONCE):
                self._check(unchecked[start : start + _AT_ONCE], fit, unfit)
                yield Step(self._seen)
            yield from self._told([Skipped(each.key, reason) for each, reason in unfit.items()])
            candidates = [each for each in candidates if each not in unfit]
        yield from self._told(_left(candidates, taken))
        return {each: fit[each] for each in taken}

    def _check(self, archives: list[Archive], fit: dict[Archive, Fit], unfit: dict[Archive, str]) -> None:
        for archive, checked in zip(archives, self._threads.map(self._look, archives), strict=True):
            if isinstance(checked, Fit):
                fit[archive] = checked
            else:
                unfit[archive] = checked

    def _look(self, archive: Archive) -> Fit | str:
        try:
            return check(self._bucket, archive, self._resources.scratch)
        except Unfit as error:
            return str(error)

    def _told(self, skipped: Sequence[Skipped]) -> Iterator[Step]:
        """Each object once, also where the bucket is listed anew."""
        skipped = [each for each in skipped if each.key not in self._left_out]
        self._left_out.update(each.key for each in skipped)
        for start in range(0, len(skipped), _SKIPPED):
            yield Step(self._seen, skipped=skipped[start : start + _SKIPPED])


def _object_keys(listing: Listing) -> list[str]:
    """Of all archives, and of the indices that stand alone; each other index goes with its archive."""
    return [*(archive.key for archive in listing.archives()), *listing.lonely_indices()]


def _sorted_out(listing: Listing, known: Known) -> tuple[list[Archive], list[Skipped]]:
    """The archives that may get a row, and what must not, but for those that have one."""
    new, skipped = [], []
    for archive in listing.archives():
        if known.has(archive):
            continue
        if reason := known.refusal(archive):
            skipped.append(Skipped(archive.key, reason))
        else:
            new.append(archive)
    for key in listing.lonely_indices():
        skipped.append(Skipped(key, known.claimed(key) or "it is an index without its archive"))
    return new, skipped


def _left(candidates: Sequence[Archive], taken: list[Archive]) -> list[Skipped]:
    chosen = set(taken)
    left = [(each, overlapped(taken, each)) for each in candidates if each not in chosen]
    return [Skipped(each.key, f"it overlaps {other.key}, which was taken instead") for each, other in left if other]
