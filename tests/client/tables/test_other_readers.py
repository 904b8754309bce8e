"""DuckDB, pandas and polars read the objects of tables as they are in the bucket.

pandas and polars open them there. DuckDB would need an extension for that, which its wheel does not have.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.fs
import pytest

from datas3t.client._tables.files_rows import files_rows
from tests.client.sites import Site
from tests.client.tables.memory import file_of

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

COUNT = 1000
TIMES = [number * 1001 or None for number in range(COUNT)]
PATHS = [f"cats/{number:04d}.jpg" for number in range(COUNT)]
ROWS = files_rows(range(1, COUNT + 1), PATHS, range(COUNT), TIMES, [2**32 - 1] * COUNT)


@pytest.fixture
def object_key(site: Site) -> str:
    """Return the key of the object that holds the rows."""
    site.client.datas3t(site.name).table("files").append(ROWS)
    (key,) = site.objects()
    return key


def test_pandas_reads_the_object(site: Site, object_key: str, services: "Services") -> None:
    import pandas

    host = services.s3.endpoint.partition("://")[2]
    bucket = pyarrow.fs.S3FileSystem(
        access_key=services.s3.access_key,
        secret_key=services.s3.secret_key,
        endpoint_override=host,
        scheme="http",
        region="us-east-1",
    )
    frame = pandas.read_parquet(f"{site.bucket}/{object_key}", filesystem=bucket)
    assert list(frame.columns) == ["key", "path", "size", "mtime", "crc32c"]
    assert pa.Table.from_pandas(frame, schema=ROWS.schema, preserve_index=False).equals(ROWS)


def test_polars_reads_the_object(site: Site, object_key: str, services: "Services") -> None:
    import polars

    options = {
        "aws_access_key_id": services.s3.access_key,
        "aws_secret_access_key": services.s3.secret_key,
        "aws_endpoint_url": services.s3.endpoint,
        "aws_region": "us-east-1",
        "aws_allow_http": "true",
    }
    frame = polars.read_parquet(f"s3://{site.bucket}/{object_key}", storage_options=options)
    assert frame.to_arrow().cast(ROWS.schema).equals(ROWS)


def test_duckdb_reads_the_object(site: Site, object_key: str, tmp_path: Path) -> None:
    import duckdb

    (tmp_path / "files.parquet").write_bytes(site.object(object_key))
    with duckdb.connect() as connection:
        query = f"SELECT key, path, size, epoch_ns(mtime), crc32c FROM '{tmp_path}/files.parquet'"
        rows = connection.execute(query).fetchall()
    assert rows == list(zip(range(1, COUNT + 1), PATHS, range(COUNT), TIMES, [2**32 - 1] * COUNT, strict=True))


def test_duckdb_takes_the_newest_rows_as_the_page_says(tmp_path: Path) -> None:
    import duckdb

    page = (Path(__file__).parents[3] / "docs/tables.md").read_text()
    query = page.partition("```sql\n")[2].partition("```")[0]
    for counter, table in ((1, {"key": [1, 2, 3], "label": ["a", "b", "c"]}), (2, {"key": [2], "label": ["x"]})):
        file = file_of(pa.table(table), counter)
        (tmp_path / file.location.rpartition("/")[2]).write_bytes(file.content)
    query = query.replace("s3://bucket/datas3t/photos/tables/labels", str(tmp_path))
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT key, label FROM ({query.replace(';', '')}) ORDER BY key").fetchall()
    assert found == [(1, "a"), (2, "x"), (3, "c")]
