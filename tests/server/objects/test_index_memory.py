"""The memory that aggregates and imports need for indices does not grow with the number of datapoints."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datas3t.server.db.dataranges import Datarange
from tests.support.memory import memory_growth

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from datas3t.embedded.stack import Services

READY = """
from pathlib import Path
import numpy
from datas3t.server.aggregates.planned import joined_index
from datas3t.server.db.dataranges import Datarange
from datas3t.server.s3.bucket import Buckets, Location
from datas3t.server.objects.spool import spool
location, rows, folder = arguments
bucket, rows = Buckets().at(Location(**location)), [Datarange(**row) for row in rows]
bucket.head("nothing")
"""
JOIN = """
with spool(Path(folder)) as file:
    for piece in joined_index(bucket, rows):
        file.write(piece)
    bucket.put("joined", file)
"""

TO_WALK = """
import tempfile
from datas3t.archive import names, tar, write
COUNT = 250_000
def read(start, stop):
    keys = range(start // 512, min(-(-stop // 512), COUNT))
    headers = b"".join(write.header(names.entry_name(key, "bin"), 0) for key in keys)
    return headers.ljust(stop - start, b"\\0")[:stop - start]
read(0, 1 << 16)
file = tempfile.SpooledTemporaryFile(1 << 18, dir=arguments)
"""
WALK = """
assert tar.scan(read, 512 * COUNT + 1024, wide=1 << 16, into=file).count == COUNT
"""


def index_of_empty_datapoints(count: int) -> bytes:
    """Return the index of `count` datapoints without content."""
    records = np.zeros((count, 2), dtype=">u8")
    records[:, 0] = np.arange(count) * 512
    records[:, 1] = 1 << 48
    return records.tobytes()


def test_joining_indices_of_ten_million_datapoints_needs_little_memory(
    services: "Services", s3: "S3Client", bucket: str, tmp_path: Path
) -> None:
    count = 2_500_000
    etag = s3.put_object(Bucket=bucket, Key="index", Body=index_of_empty_datapoints(count))["ETag"].strip('"')
    rows = [
        Datarange(first, first, first + count - 1, "archive", "index", 512 * count + 1024, 512 * count, "", etag)
        for first in range(0, 10_000_000, count)
    ]
    location = {
        "endpoint": services.s3.endpoint,
        "bucket": bucket,
        "region": "us-east-1",
        "access_key": services.s3.access_key,
        "secret_key": services.s3.secret_key,
    }
    assert (
        memory_growth(READY, JOIN, [location, [asdict(row) for row in rows], str(tmp_path)]) < 45
    )  # MiB; 160 MiB of indices
    assert s3.get_object(Bucket=bucket, Key="joined")["Body"].read() == index_of_empty_datapoints(10_000_000)


def test_walking_an_archive_does_not_keep_its_index_in_memory(tmp_path: Path) -> None:
    assert memory_growth(TO_WALK, WALK, str(tmp_path)) < 2  # MiB; the index has 4 MiB
