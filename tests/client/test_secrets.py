"""Presigned URLs do not appear in errors, reprs or files of the client. docs/secrets.md lists every place."""

from pathlib import Path

import pytest

from datas3t.client import TransferFailed
from datas3t.client._calls.renewal import Lifetime
from datas3t.client._calls.tables import SignedTableFile, StartedTableFile
from datas3t.client._reading.signed import Columns, SignedDatarange
from tests.client.archives import MIB, sample
from tests.client.reading.archive_host import catalogue_of
from tests.client.sites import Site
from tests.support.faults import Fault

SIGNED_URL = "http://s3.example/b/k.tar?X-Amz-Credential=hush&X-Amz-Signature=hush"


def test_the_repr_of_a_readable_datarange_does_not_show_its_urls() -> None:
    columns = Columns()
    columns.add(1, 0, 9, 3072, (SIGNED_URL, SIGNED_URL), ("etag", "etag"))
    datarange = SignedDatarange(columns, 0, Lifetime(0, 0, 0))
    assert datarange.data_url == SIGNED_URL
    assert not any("hush" in repr(each) for each in (datarange, columns, catalogue_of(columns)))


def test_the_repr_of_a_table_file_does_not_show_its_url() -> None:
    listed = SignedTableFile(1, 0, 9, 1, 3072, "etag", SIGNED_URL, Lifetime(0, 0, 0))
    assert listed.url == SIGNED_URL
    assert not any("hush" in text for text in (repr(listed), repr(StartedTableFile(1, SIGNED_URL)), listed.location))


def test_a_failed_upload_leaves_no_presigned_url_in_its_error_or_in_files(
    relayed: Site, tmp_path: Path, state_home: Path
) -> None:
    assert relayed.relay
    large = sample(tmp_path / "large.tar", 1, *[9 * MIB] * 5)
    relayed.relay.plan(*[Fault(status=500, only=b"partNumber=3")] * 2)
    with pytest.raises(TransferFailed) as caught:
        relayed.upload(large, max_retries=1, max_parallelism=1)
    assert "X-Amz" not in str(caught.value)
    assert list((state_home / "datas3t" / "uploads").iterdir()), "the journal to continue from"
    assert_no_signature_in(state_home)


def test_a_failed_push_leaves_no_presigned_url_in_its_error_or_in_files(
    relayed: Site, tmp_path: Path, state_home: Path
) -> None:
    assert relayed.relay
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(bytes(45 * MIB))
    relayed.relay.plan(*[Fault(status=500, only=b"partNumber=3")] * 2)
    with pytest.raises(TransferFailed) as caught:
        relayed.client.push(relayed.name, tmp_path / "in", max_retries=1, max_parallelism=1)
    assert "X-Amz" not in str(caught.value)
    assert list((state_home / "datas3t" / "pushes").iterdir()), "the journal to continue from"
    assert_no_signature_in(state_home)


def test_a_failed_download_and_reads_leave_no_presigned_url_in_errors_or_in_files(
    relayed: Site, tmp_path: Path, state_home: Path
) -> None:
    assert relayed.relay
    relayed.upload(sample(tmp_path / "archive.tar", 0, *[5 * MIB] * 4))
    datas3t = relayed.client.datas3t(relayed.name)
    datas3t.get(1)
    output = tmp_path / "output"
    output.mkdir()
    relayed.relay.plan(Fault(only=b"GET "))  # the first request succeeds
    relayed.relay.always = Fault(status=400, only=b"GET ")
    with pytest.raises(TransferFailed) as downloading:
        relayed.client.download_tar(
            relayed.name, 0, 3, output / "out.tar", max_retries=0, max_parallelism=1, chunk_size=MIB
        )
    with pytest.raises(TransferFailed) as reading:
        datas3t.get(2)
    assert "X-Amz" not in str(downloading.value) + str(reading.value)
    assert list(output.iterdir()), "the partial output to continue from"
    for folder in (state_home, output):
        assert_no_signature_in(folder)


def assert_no_signature_in(folder: Path) -> None:
    """Assert that no file below the folder holds a part of a presigned URL's query."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"X-Amz-" in path.read_bytes()]
