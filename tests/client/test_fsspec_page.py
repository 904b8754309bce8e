"""The code of docs/fsspec.md runs."""

import io
import zipfile
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet

from tests.client.pages import run, upload
from tests.client.sites import Site


def test_the_code_of_the_page_runs(site: Site, bucket_name: str, tmp_path: Path) -> None:
    upload(site.client, site.name, tmp_path / "photos.tar", "json", [b'[{"a": %d}]' % key for key in range(40, 50)], 40)
    tracks, zips = f"{site.name}-tracks", f"{site.name}-zips"
    for name in (tracks, zips):
        site.client.add_datas3t(name, bucket=bucket_name)
    table, archive = io.BytesIO(), io.BytesIO()
    pyarrow.parquet.write_table(pa.table({"x": [1, 2, 3]}), table)
    upload(site.client, tracks, tmp_path / "tracks.tar", "parquet", [table.getvalue()] * 2)
    with zipfile.ZipFile(archive, "w") as writing:
        writing.writestr("a.txt", "hello")
    upload(site.client, zips, tmp_path / "zips.tar", "zip", [archive.getvalue()], 42)
    replacing = {"//photos": f"//{site.name}", '"photos': f'"{site.name}', "tracks": tracks, "//zips": f"//{zips}"}
    try:
        known = run("fsspec.md", {"url": site.client.url}, replacing)
    finally:
        if "datas3t" in duckdb.list_filesystems():
            duckdb.unregister_filesystem("datas3t")
    assert known["content"] == b'[{"a": 42}]'
    assert [*known["contents"].values()] == [b'[{"a": 41}]', b'[{"a": 42}]']
    assert known["parts"] == [b'[{"a": 41}', b'": 42}]']
    assert known["info"]["key"] == 42
    assert len(known["files"]) == 10
    assert known["frame"]["a"].tolist() == [42]
    assert known["table"]["x"].to_pylist() == [1, 2, 3] * 2
    assert known["count"] == (6,)
    assert known["inner"] == b"hello"
    assert known["lines"].count().compute(scheduler="sync") == 10
