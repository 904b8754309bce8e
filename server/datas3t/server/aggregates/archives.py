"""Whether the sources' archives are still what was committed. Where they are many, listings tell of most of them."""

from collections.abc import Sequence
from functools import partial
from itertools import islice

from datas3t.server.aggregates.comparison import changed
from datas3t.server.db.dataranges import Datarange
from datas3t.server.parallel import at_once
from datas3t.server.s3.bucket import Bucket

_FEW = 50  # that are sooner asked for one by one than listed
_PER_PAGE = 100  # sources that are worth a page: between them may stand much that waits to be deleted


def check(bucket: Bucket, sources: Sequence[Datarange]) -> None:
    """Raises OBJECT_CHANGED where one is not there, or with another ETag. `sources` are by first key."""
    unsure = list(sources)
    if len(sources) > _FEW:
        listed = _listed(bucket, sources)
        unsure = [row for row in sources if listed.get(row.data_object_key) != row.data_etag]
    for _ in at_once(partial(_check_one, bucket), unsure):
        pass


def _listed(bucket: Bucket, sources: Sequence[Datarange]) -> dict[str, str]:
    """ETags of objects, of the sources among others; it ends early where too few of these are among too many."""
    first, last = sources[0].data_object_key, sources[-1].data_object_key
    pages = bucket.objects(first.rpartition("/")[0] + "/", start_after=first[:-1])
    found: dict[str, str] = {}
    for page in islice(pages, 1 + len(sources) // _PER_PAGE):
        found.update((each.key, each.etag) for each in page)
        if page and page[-1].key >= last:
            break
    return found


def _check_one(bucket: Bucket, row: Datarange) -> None:
    found = bucket.head(row.data_object_key)
    if found is None or found.etag != row.data_etag:
        raise changed(row.data_object_key)
