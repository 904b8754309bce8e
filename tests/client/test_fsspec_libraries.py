"""Libraries that read `datas3t://` through fsspec, and the tests that fsspec has for file systems."""

import io
import zipfile
from collections.abc import Callable, Iterator
from hashlib import md5
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import fsspec
import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet
import pytest
from fsspec.tests.abstract import AbstractFixtures
from fsspec.tests.abstract.get import AbstractGetTests

from datas3t.client import Client, OpenDatapoint
from datas3t.fsspec import Datas3tFileSystem
from tests.client.pages import upload
from tests.client.sites import Site
from tests.support.stack import BucketPool

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services
    from datas3t.server.app.server import Server

Options = dict[str, Any]


@pytest.fixture
def options(site: Site) -> Options:
    return {"server_url": site.client.url}


@pytest.fixture
def folder(site: Site) -> str:
    """Return the URL of the datas3t."""
    return f"datas3t://{site.name}"


def parquet(start: int) -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(pa.table({"value": range(start, start + 10)}), out)
    return out.getvalue()


def test_open_files_opens_those_that_match(site: Site, folder: str, options: Options, tmp_path: Path) -> None:
    upload(site.client, site.name, tmp_path / "a.tar", "txt", [b"one", b"two", b"three"], 8)
    files = fsspec.open_files(f"{folder}/*.txt", "r", **options)
    texts = []
    for each in files:
        with each as file:
            texts.append(file.read())
    assert texts == ["one", "two", "three"]
    cached = fsspec.open(f"simplecache::{folder}/9", datas3t=options, simplecache={"cache_storage": str(tmp_path)})
    for _ in range(2):
        with cached as file:
            assert file.read() == b"two"


def test_pandas_reads_a_datapoint(site: Site, folder: str, options: Options, tmp_path: Path) -> None:
    import pandas

    upload(site.client, site.name, tmp_path / "a.tar", "json", [b'[{"a": 1}, {"a": 2}]', b'[{"a": 3}]'], 42)
    assert pandas.read_json(f"{folder}/42.json", storage_options=options)["a"].tolist() == [1, 2]
    upload(site.client, site.name, tmp_path / "b.tar", "csv", [b"a,b\n1,x\n2,y\n"], 50)
    assert pandas.read_csv(f"{folder}/50.csv", storage_options=options)["b"].tolist() == ["x", "y"]
    upload(site.client, site.name, tmp_path / "c.tar", "parquet", [parquet(0)], 60)
    fsspec.filesystem("datas3t", **options).invalidate_cache()
    assert pandas.read_parquet(f"{folder}/60.parquet", storage_options=options)["value"].tolist() == [*range(10)]


def test_pyarrow_and_duckdb_read_datapoints(site: Site, folder: str, options: Options, tmp_path: Path) -> None:
    import duckdb

    upload(site.client, site.name, tmp_path / "a.tar", "parquet", [parquet(start) for start in (0, 10, 20)])
    fs = fsspec.filesystem("datas3t", **options)
    through = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fs))
    table = pyarrow.dataset.dataset(site.name, filesystem=through, format="parquet").to_table()
    assert sorted(table["value"].to_pylist()) == [*range(30)]
    with duckdb.connect() as connection:
        connection.register_filesystem(fs)
        query = f"SELECT count(*), sum(value) FROM read_parquet('{folder}/*.parquet') WHERE value >= 5"
        assert connection.execute(query).fetchone() == (25, sum(range(5, 30)))
        assert connection.execute(f"SELECT max(value) FROM '{folder}/101.parquet'").fetchone() == (19,)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of dask
def test_dask_reads_lines(site: Site, folder: str, options: Options, tmp_path: Path) -> None:
    import dask.bag

    upload(site.client, site.name, tmp_path / "a.tar", "txt", [b"a\nb\n", b"c\n"])
    lines = dask.bag.read_text(f"{folder}/*.txt", storage_options=options)  # type: ignore[no-untyped-call]
    assert lines.map(str.strip).compute(scheduler="sync") == ["a", "b", "c"]


def test_a_datapoint_can_be_a_zip_file(site: Site, folder: str, options: Options, tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("inner/a.txt", "hello")
    upload(site.client, site.name, tmp_path / "a.tar", "zip", [out.getvalue()], 42)
    with fsspec.open(f"zip://inner/a.txt::{folder}/42.zip", datas3t=options) as file:
        assert file.read() == b"hello"


class Named(Datas3tFileSystem):
    """The files of one datas3t by other names, in nested folders, which the tests of fsspec want.

    Files that a test makes are there already.
    """

    datas3t = "abstract"
    files: ClassVar[dict[str, int]] = {}

    def _nothing(self, path: Any = "", *args: Any, **kwargs: Any) -> None:
        pass

    mkdir = touch = _nothing

    def ls(self, path: str, detail: bool = True, *args: Any, **kwargs: Any) -> list[Any]:
        path = self._strip_protocol(path)
        below = [name for name in self.files if name.startswith(f"{path}/")] or [path]
        children = dict.fromkeys("/".join(name.split("/")[: path.count("/") + 2]) for name in below)
        return [self.info(child) for child in children] if detail else list(children)

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        if path in self.files:
            return {**super().info(f"{self.datas3t}/{self.files[path]}"), "name": path}
        if any(name.startswith(f"{path}/") for name in self.files):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def _open(self, path: str, *args: Any, **kwargs: Any) -> OpenDatapoint:
        return super()._open(f"{self.datas3t}/{self.files[path]}", *args, **kwargs)


class TestGet(AbstractFixtures, AbstractGetTests):
    """fsspec's own tests of copying files to this machine. Those of writing do not apply."""

    @pytest.fixture(scope="class")
    @classmethod
    def fs(
        cls, server: "Server", services: "Services", buckets: BucketPool, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Any]:
        """Yield a file system with all files of the scenarios."""
        scenario = ["file1", "file2", "subdir/subfile1", "subdir/subfile2", "subdir/nesteddir/nestedfile"]
        edges = ["file1", "file2", "subdir0/subfile1", "subdir0/subfile2", "subdir0/nesteddir/nestedfile",
                 "subdir1/subfile1", "subdir1/subfile2", "subdir1/nesteddir/nestedfile"]  # fmt: skip
        files = {f"scenario/{name}": name.encode() for name in scenario}
        files |= {f"edges/{name}": name.encode() for name in edges}
        files |= {"src/file": b"c", "prefix/subdir.txt": b"a", "prefix/subdir/subfile.txt": b"b"}
        files |= {f"hashed/{md5(b'%d' % n).hexdigest()}.txt": b"%d" % n for n in range(10)}
        folder, s3 = tmp_path_factory.mktemp("abstract"), services.s3
        keys = {"access_key": s3.access_key, "secret_key": s3.secret_key}
        with buckets.lend() as bucket, Client(server.url) as client:
            client.add_bucket(bucket, endpoint=s3.endpoint, bucket=bucket, **keys)
            client.add_datas3t("abstract", bucket=bucket)
            upload(client, "abstract", folder / "files.tar", "bin", [*files.values()], 1)
            Named.files = {f"root/{name}": key for key, name in enumerate(files, 1)}
            yield Named(server.url, cache_dir=str(folder / "cache"))

    @pytest.fixture
    def fs_path(self) -> str:
        """Return the folder of all files."""
        return "root"

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        """Return a function that joins paths."""
        return lambda *parts: "/".join(part for part in parts if part)

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        """Return False."""
        return False

    @pytest.fixture
    def local_path(self, tmp_path: Path) -> str:
        """Return a folder of it."""
        return str(tmp_path)

    @pytest.fixture
    def fs_bulk_operations_scenario_0(self) -> str:
        """Return the folder of this scenario; the others likewise."""
        return "root/scenario"

    @pytest.fixture
    def fs_glob_edge_cases_files(self) -> str:
        return "root/edges"

    @pytest.fixture
    def fs_dir_and_file_with_same_name_prefix(self) -> str:
        return "root/prefix"

    @pytest.fixture
    def fs_10_files_with_hashed_names(self) -> str:
        return "root/hashed"
