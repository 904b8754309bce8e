"""An import, step by step: one transaction for each datas3t in the bucket, and none that is open while S3 is called."""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from datas3t.archive import names
from datas3t.server import buckets
from datas3t.server.call import in_current_call
from datas3t.server.db import datas3ts, pool
from datas3t.server.db.s3_buckets import S3Bucket
from datas3t.server.imports.archives import CheckedArchive, NotImportableError, check_archive
from datas3t.server.imports.catalogue import Baseline, Catalogue, read_baseline
from datas3t.server.imports.cover import best_cover, find_overlapping
from datas3t.server.imports.listing import Archive, Listing, Skipped
from datas3t.server.imports.rows import RemovedSinceError, commit, other_bucket_reason, remove_rows_without_objects
from datas3t.server.resources import Resources

THREADS = 16  # archives that one import checks at a time

_ROOT = "datas3t/"
_CHECKS_PER_STEP = 256  # archives that are checked before the next step shows that the import is alive
_SKIPPED_PER_STEP = 500  # so that a step's message stays well below 1 MiB
_MAX_LISTINGS = 5  # of a datas3t, if dataranges are removed during each of them
_MAX_CHOICES = 3  # then all remaining archives are checked: many bad ones that overlap would take a choice each


@dataclass(frozen=True, slots=True)
class Step:
    """A part of an import's result; all steps together are the result.

    `seen` is the number of objects that were listed so far. `imported_count` is set in the last step.
    """

    seen: int
    imported: Sequence[str] = ()
    skipped: Sequence[Skipped] = ()
    imported_count: int = 0


def run(resources: Resources, bucket_name: str) -> Iterator[Step]:
    """Import all archives in a bucket that have no row yet; yield the result in steps.

    A repeated import changes nothing. One that is stopped or fails keeps the datas3ts that it has finished.
    """
    row = buckets.find(resources, bucket_name, "bucket_name")
    with ThreadPoolExecutor(THREADS, thread_name_prefix="import") as threads:
        yield from _Import(resources, row, threads).run()


class _Import:
    """A running import: the bucket, and what was reported so far."""

    def __init__(self, resources: Resources, row: S3Bucket, threads: ThreadPoolExecutor) -> None:
        self._resources = resources
        self._row = row
        self._bucket = buckets.open_bucket(resources, row)
        self._threads = threads
        self._seen = 0
        self._imported = 0
        self._reported: set[str] = set()  # keys of skipped objects

    def run(self) -> Iterator[Step]:
        for page in self._bucket.folders(_ROOT):
            for folder in page:
                yield from self._import_folder(folder.removeprefix(_ROOT).removesuffix("/"))
        yield Step(self._seen, imported_count=self._imported)

    def _import_folder(self, name: str) -> Iterator[Step]:
        """List and import a datas3t, again from the start if dataranges were removed during it."""
        for _ in range(_MAX_LISTINGS):
            try:
                yield from self._list_and_import(name)
            except RemovedSinceError:
                continue
            return
        reason = f"dataranges were removed during each of {_MAX_LISTINGS} attempts; import again"
        yield from self._report([Skipped(names.prefix(name), reason)])

    def _list_and_import(self, name: str) -> Iterator[Step]:
        with pool.connection(self._resources.pool) as conn:
            baseline = read_baseline(conn, self._row.id, name)
        listing = Listing(name)
        for page in self._bucket.objects(names.prefix(name)):
            listing.add(page)
            self._seen += len(page)
            yield Step(self._seen)
        yield from self._report(listing.unrecognized)
        if listing.counter:
            yield from self._import_listed(name, listing, baseline)

    def _import_listed(self, name: str, listing: Listing, baseline: Baseline) -> Iterator[Step]:
        # Leave out what has a row, and what must not get one.
        with pool.connection(self._resources.pool) as conn:
            datas3t = datas3ts.by_name(conn, name)
            catalogue = Catalogue(conn, self._row.id, name, datas3t, listing.object_keys(), baseline)
        if datas3t and datas3t.bucket_id != self._row.id:
            yield from self._report([Skipped(key, other_bucket_reason(name)) for key in listing.object_keys()])
            return
        candidates, skipped = _candidates(listing, catalogue)
        yield from self._report(skipped)

        # Check the archives in S3, then add their rows, unless there is nothing to change.
        chosen = yield from self._choose(candidates)
        if not chosen and (datas3t is None or datas3t.upload_counter >= listing.counter):
            return
        added, skipped = commit(self._resources, self._row, name, listing.counter, chosen, baseline)
        yield from self._report(skipped)
        if added:
            added, skipped = remove_rows_without_objects(self._resources, self._row, self._bucket, name, added)
            yield from self._report(skipped)
        if added:
            self._imported += 1
            yield Step(self._seen, imported=[name])

    def _choose(self, candidates: list[Archive]) -> Generator[Step, None, dict[Archive, CheckedArchive]]:
        """Return the best cover of the keys by readable archives.

        Only chosen archives are checked. If one is not readable, the next choice is made without it.
        """
        checked: dict[Archive, CheckedArchive] = {}
        choices = 0
        while True:
            chosen = best_cover(candidates)
            unchecked = [each for each in (chosen if choices < _MAX_CHOICES else candidates) if each not in checked]
            if not unchecked:
                break
            choices += 1
            reasons: dict[Archive, str] = {}
            for start in range(0, len(unchecked), _CHECKS_PER_STEP):
                self._check(unchecked[start : start + _CHECKS_PER_STEP], checked, reasons)
                yield Step(self._seen)
            yield from self._report([Skipped(each.key, reason) for each, reason in reasons.items()])
            candidates = [each for each in candidates if each not in reasons]
        yield from self._report(_not_chosen(candidates, chosen))
        return {each: checked[each] for each in chosen}

    def _check(
        self, archives: list[Archive], checked: dict[Archive, CheckedArchive], reasons: dict[Archive, str]
    ) -> None:
        """Check archives concurrently; add each to `checked`, or to `reasons` with why it cannot be imported."""
        for archive, result in zip(
            archives, self._threads.map(in_current_call(self._check_one), archives), strict=True
        ):
            if isinstance(result, CheckedArchive):
                checked[archive] = result
            else:
                reasons[archive] = result

    def _check_one(self, archive: Archive) -> CheckedArchive | str:
        try:
            return check_archive(self._bucket, archive, self._resources.scratch)
        except NotImportableError as error:
            return str(error)

    def _report(self, skipped: Sequence[Skipped]) -> Iterator[Step]:
        """Yield skipped objects, each of them once, even if the bucket is listed again."""
        skipped = [each for each in skipped if each.key not in self._reported]
        self._reported.update(each.key for each in skipped)
        for start in range(0, len(skipped), _SKIPPED_PER_STEP):
            yield Step(self._seen, skipped=skipped[start : start + _SKIPPED_PER_STEP])


def _candidates(listing: Listing, catalogue: Catalogue) -> tuple[list[Archive], list[Skipped]]:
    """Return the archives that may get a row, and the objects that must not; those that have a row are in neither."""
    candidates, skipped = [], []
    for archive in listing.archives():
        if catalogue.has_row(archive):
            continue
        if reason := catalogue.reason_to_skip(archive):
            skipped.append(Skipped(archive.key, reason))
        else:
            candidates.append(archive)
    for key in listing.indices_without_archive():
        skipped.append(Skipped(key, catalogue.reason_in_use(key) or "it is an index without an archive"))
    return candidates, skipped


def _not_chosen(candidates: Sequence[Archive], chosen: list[Archive]) -> list[Skipped]:
    chosen_set = set(chosen)
    others = [(each, find_overlapping(chosen, each)) for each in candidates if each not in chosen_set]
    return [
        Skipped(each.key, f"it overlaps {other.key}, which was imported instead") for each, other in others if other
    ]
