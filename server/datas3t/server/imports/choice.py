"""The choice among listed archives: which get a row, after a check in S3, and why the others are skipped."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from datas3t.archive.checksums import RECORD_SIZE
from datas3t.server import buckets
from datas3t.server.call import in_current_call
from datas3t.server.db import datas3ts, pool
from datas3t.server.db.s3_buckets import S3Bucket
from datas3t.server.imports.archives import CheckedArchive, NotImportableError, check_archive
from datas3t.server.imports.catalogue import Catalogue
from datas3t.server.imports.cover import best_cover, find_overlapping
from datas3t.server.imports.listing import Archive, Found, Skipped
from datas3t.server.imports.many import check_indexed, check_small
from datas3t.server.imports.rows import other_bucket_reason
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import ObjectInfo

THREADS = 16  # large archives that one import checks at a time

_MAX_CHOICES = 3  # then all remaining archives are checked: many bad ones that overlap would take a choice each


@dataclass(frozen=True, slots=True)
class Chosen:
    """The archives that get a row, in key order, and the objects that do not."""

    checked: Mapping[Archive, CheckedArchive]
    skipped: Sequence[Skipped]


class Chooser:
    """Chooses and checks archives of one bucket. A context manager."""

    def __init__(self, resources: Resources, row: S3Bucket) -> None:
        self._resources = resources
        self._row = row
        self._bucket = buckets.open_bucket(resources, row)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="import")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown()

    def choose(self, name: str, found: Found) -> Chosen:
        """Return the best cover of the keys by readable archives, as far as nothing else has these keys."""
        with pool.connection(self._resources.pool) as conn:
            datas3t = datas3ts.by_name(conn, name)
            catalogue = Catalogue(conn, self._row.id, name, datas3t, found.archives, found.lone)
        if datas3t and datas3t.bucket_id != self._row.id:
            keys = [*(archive.key for archive in found.archives), *found.lone]
            return Chosen({}, [Skipped(key, other_bucket_reason(name)) for key in keys])
        candidates, skipped = _candidates(found, catalogue)
        checked, unchosen = self._best(candidates)
        return Chosen(checked, [*skipped, *unchosen])

    def _best(self, candidates: list[Archive]) -> tuple[dict[Archive, CheckedArchive], list[Skipped]]:
        """Return the best cover by readable archives, and why the others are not in it.

        Only chosen archives are checked. If one is not readable, the next choice is made without it.
        """
        checked: dict[Archive, CheckedArchive] = {}
        skipped: list[Skipped] = []
        choices = 0
        while True:
            chosen = best_cover(candidates)
            unchecked = [each for each in (chosen if choices < _MAX_CHOICES else candidates) if each not in checked]
            if not unchecked:
                skipped += _not_chosen(candidates, chosen)
                skipped += [
                    Skipped(each.checksums_key, problem)
                    for each in chosen
                    if (problem := checked[each].checksums_problem) is not None
                ]
                return {each: checked[each] for each in chosen}, skipped
            choices += 1
            reasons = self._check(unchecked, checked)
            skipped += [Skipped(each.key, reason) for each, reason in reasons.items()]
            candidates = [each for each in candidates if each not in reasons]

    def _check(self, archives: Sequence[Archive], checked: dict[Archive, CheckedArchive]) -> dict[Archive, str]:
        """Check archives, add them to `checked`, and return why others cannot be imported."""
        results = check_small(self._bucket, archives)
        results.update(check_indexed(self._bucket, archives))
        others = [each for each in archives if each not in results]
        results.update(zip(others, self._threads.map(in_current_call(self._check_one), others), strict=True))
        checked.update((each, result) for each, result in results.items() if isinstance(result, CheckedArchive))
        return {each: str(result) for each, result in results.items() if isinstance(result, NotImportableError)}

    def _check_one(self, archive: Archive) -> CheckedArchive | NotImportableError:
        try:
            return check_archive(self._bucket, archive, self._resources.scratch)
        except NotImportableError as error:
            return error


def _candidates(found: Found, catalogue: Catalogue) -> tuple[list[Archive], list[Skipped]]:
    """Return the archives that may get a row, and the objects that must not; those that have a row are in neither."""
    candidates, skipped = [], []
    for archive in found.archives:
        if catalogue.has_row(archive):
            continue
        if reason := catalogue.reason_to_skip(archive):
            skipped.append(Skipped(archive.key, reason))
        elif archive.checksums and (reason := _checksums_reason(archive, archive.checksums, catalogue)):
            skipped.append(Skipped(archive.checksums_key, reason))
            candidates.append(replace(archive, checksums=None))
        else:
            candidates.append(archive)
    for key in found.lone:
        what = (
            "it is an index without an archive" if key.endswith(".index") else "they are checksums without an archive"
        )
        skipped.append(Skipped(key, catalogue.reason_in_use(key) or what))
    return candidates, skipped


def _checksums_reason(archive: Archive, stored: ObjectInfo, catalogue: Catalogue) -> str | None:
    """Return why the checksums of an archive that may get a row are not taken; None if they are."""
    size = RECORD_SIZE * archive.count
    if stored.size != size:
        return f"it has {stored.size} bytes, but the checksums of {archive.count} datapoints have {size}"
    return catalogue.reason_in_use(archive.checksums_key)


def _not_chosen(candidates: Sequence[Archive], chosen: list[Archive]) -> list[Skipped]:
    chosen_set = set(chosen)
    others = [(each, find_overlapping(chosen, each)) for each in candidates if each not in chosen_set]
    return [
        Skipped(each.key, f"it overlaps {other.key}, which was imported instead") for each, other in others if other
    ]
