"""Aggregates with the plain functions of the server: what the SDK does, in a few lines."""

import io
import tarfile
import urllib.request
from collections.abc import Sequence

from datas3t.archive.names import MAX_KEY
from datas3t.server import aggregates, dataranges
from datas3t.server.aggregates import SignedPart, Started
from datas3t.server.db.dataranges import Datarange
from tests.support.uploads import Archive, Site, archive, put

PART_SIZE = 20 << 20  # of merged archives below 200 GB


def rows(site: Site) -> list[Datarange]:
    """Return the dataranges in key order."""
    return dataranges.find_span(site.resources, site.datas3t, 0, MAX_KEY, after=-1, limit=1000).rows


def bounds(site: Site) -> list[tuple[int, int]]:
    """Return the first and last keys of the dataranges."""
    return [(row.first_key, row.last_key) for row in rows(site)]


def stored(site: Site, key: str) -> bytes:
    """Return the content of an object."""
    return site.s3.get_object(Bucket=site.bucket, Key=key)["Body"].read()


def start(site: Site, first: int, last: int, *, planned: bool = False, with_checksums: bool = False) -> Started:
    """Start an aggregate."""
    return aggregates.start(site.resources, site.datas3t, first, last, planned=planned, with_checksums=with_checksums)


def make_all_due(site: Site) -> None:
    """Let the deletion of all queued objects be due now."""
    with site.resources.pool.connection() as conn:
        conn.execute("UPDATE keys_to_delete SET due_at = now(), due_since = now()")


def send_planned(site: Site, first: int, last: int) -> tuple[int, list[str]]:
    """Start a planned aggregate and make all of its parts; return its id and the ETags of the parts."""
    started = start(site, first, last, planned=True)
    numbers = range(1, started.part_count + 1)
    signed = aggregates.sign_parts(site.resources, started.aggregate.id, numbers)
    return started.aggregate.id, [make_part(site, part) for part in signed.parts]


def make_part(site: Site, part: SignedPart) -> str:
    """Make one part as planned; return its ETag."""
    if part.copy is None:
        return put(part.url, part_bytes(site, part))
    headers = {"x-amz-copy-source": part.copy.copy_source, "x-amz-copy-source-range": part.copy.copy_source_range}
    request = urllib.request.Request(part.copy.url, data=b"", method="PUT", headers=headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        text: str = response.read().decode()
    return text.partition("<ETag>")[2].partition("</ETag>")[0].replace("&#34;", "").replace("&quot;", "")


def part_bytes(site: Site, part: SignedPart) -> bytes:
    """Return the bytes of a part."""
    pieces = [stored(site, row.data_object_key)[start:stop] for row, start, stop in part.pieces]
    return b"".join(pieces) + bytes(part.zeros)


def aggregate(site: Site, first: int, last: int) -> int:
    """Make and complete a planned aggregate; return its id."""
    aggregate_id, etags = send_planned(site, first, last)
    aggregates.complete(site.resources, aggregate_id, etags)
    return aggregate_id


def merge(sources: Sequence[bytes], *, dialect: int = tarfile.PAX_FORMAT, first: int = 1) -> Archive:
    """Merge archives with Python's tarfile; return the result with its index."""
    out, records, count = io.BytesIO(), b"", 0
    with tarfile.open(fileobj=out, mode="w", format=dialect) as new:
        for source in sources:
            with tarfile.open(fileobj=io.BytesIO(source)) as old:
                for member in old:
                    start = out.tell()
                    member.pax_headers = {"comment": "merged"} if dialect == tarfile.PAX_FORMAT else {}
                    new.addfile(member, old.extractfile(member))
                    blocks = (out.tell() - start - -(-member.size // 512) * 512) // 512
                    records += start.to_bytes(8, "big") + blocks.to_bytes(2, "big") + member.size.to_bytes(6, "big")
                    count += 1
    return Archive(first, count, out.getvalue(), records)


def send_merged(started: Started, new: Archive) -> tuple[int, list[str]]:
    """PUT an archive that a client merged, and its index; return the aggregate's id and the ETags of the parts."""
    put(started.index_put_url, new.index)
    if started.data_put_url:
        put(started.data_put_url, new.data)
        return started.aggregate.id, []
    parts = [new.data[at : at + PART_SIZE] for at in range(0, len(new.data), PART_SIZE)]
    return started.aggregate.id, [put(url, part) for url, part in zip(started.part_urls, parts, strict=False)]


def upload_some(site: Site, count: int, first: int = 1) -> list[Archive]:
    """Upload small archives of three datapoints each, without a gap."""
    archives = [archive(first + 3 * n, b"a" * n, b"b" * 600, b"c" * (n + 1)) for n in range(count)]
    for each in archives:
        site.upload(each)
    return archives
