"""A full disk: `datas3t up` reports it, and uploads work again when there is space. Needs root, to mount a disk."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from datas3t.client import Client, pack
from tests.embedded.test_up import running, start
from tests.support.stack import wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield the mount point of a disk of 192 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command: list[str | Path] = ["mount", "-t", "tmpfs", "-o", "size=192m", "tmpfs", disk]
    if (
        shutil.which("mount") is None
        or os.geteuid() != 0
        or subprocess.run(command, check=False, capture_output=True).returncode != 0
    ):
        pytest.skip("a small disk cannot be mounted here: it needs root, and the right to mount")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.fixture
def data_dir_on_small_disk(small_disk: Path, used_data_dir: Path) -> Path:
    """Return a data directory on that disk, with a cluster and its secrets."""
    data_dir = small_disk / "data"
    data_dir.mkdir(mode=0o700)
    subprocess.run(["cp", "-a", used_data_dir / "postgres", used_data_dir / "secrets.json", data_dir], check=True)
    return data_dir


def test_a_start_on_a_full_disk_says_so(data_dir_on_small_disk: Path, tmp_path: Path) -> None:
    fill(data_dir_on_small_disk.parent / "filler")
    up = start(data_dir_on_small_disk, log=tmp_path / "up.out")
    assert up.wait(90) == 1
    assert f"the disk of {data_dir_on_small_disk} is full: free some space, and start again" in up.log
    assert up.log.count("\n") == 1, up.log


def test_uploads_work_again_when_a_full_disk_has_room(
    data_dir_on_small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("DATAS3T_CACHE_DIR", str(tmp_path / "cache"))
    data_dir = data_dir_on_small_disk
    (tmp_path / "file").write_bytes(os.urandom(100_000))
    pack([tmp_path / "file"], tmp_path / "a.tar")
    with running(data_dir) as (up, stack), s3_client(stack) as s3:
        filler = data_dir.parent / "filler"
        fill(filler)
        # The journals of SeaweedFS's directories are written into blocks that they have, and then fail.
        wait_until(lambda: not stores(s3, stack) and not stores(s3, stack), what="a failed upload")
        wait_until(lambda: f"the disk of {data_dir} is full; uploads fail until there is space" in up.log)
        filler.unlink()
        wait_until(lambda: f"the disk of {data_dir} has space again" in up.log, what="space")
        assert all(stores(s3, stack, f"folder-{number}/key") for number in range(20))
        with Client(stack["server_url"]) as client:
            client.add_datas3t("later", bucket="local")
            client.datas3t("later").upload_tar(tmp_path / "a.tar")
            assert client.datas3t("later").get(1) == (tmp_path / "file").read_bytes()


def fill(filler: Path) -> None:
    """Write a file until the disk has no room."""
    with filler.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(bytes(4096))


@contextlib.contextmanager
def s3_client(stack: dict[str, Any]) -> "Iterator[S3Client]":
    from botocore.config import Config

    from datas3t.server.s3.clients import CONFIG, plain_client
    from datas3t.server.s3.locations import Location

    s3 = stack["s3"]
    location = Location(s3["endpoint"], s3["bucket"], "us-east-1", s3["access_key"], s3["secret_key"])
    once = CONFIG.merge(Config(retries={"mode": "standard", "total_max_attempts": 1}))
    with contextlib.closing(plain_client(location, once)) as client:
        yield client


def stores(s3: "S3Client", stack: dict[str, Any], key: str = "key") -> bool:
    """Return whether an empty object can be stored, which is an entry of a directory alone."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        s3.put_object(Bucket=stack["s3"]["bucket"], Key=key, Body=b"")
    except (BotoCoreError, ClientError):
        return False
    return True
