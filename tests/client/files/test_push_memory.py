"""The memory of a push of many files."""

import sys
from pathlib import Path

import pytest

from tests.client.sites import Site
from tests.support.memory import memory_growth

_FILES = 60_000


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_push_needs_at_most_250_bytes_for_each_file_and_64_mb(site: Site, tmp_path: Path) -> None:
    source = tmp_path / "in"
    for folder in range(20):
        (source / f"{folder:02d}").mkdir(parents=True)
        (source / f"{folder:02d}" / "0").write_bytes(b"")
        for number in range(1, _FILES // 20):  # links to one file are quick to make
            (source / f"{folder:02d}" / f"{number:05d}.jpg").hardlink_to(source / f"{folder:02d}" / "0")
    growth = memory_growth(
        """
from datas3t.client import Client
from datas3t.client._files import push
url, name, source, warm = arguments
client = Client(url)
client.datas3t(name).push(warm)
        """,
        "assert client.datas3t(name).push(source).files == 60_000",
        [site.client.url, site.name, str(source), str(source / "00" / "0")],
    )
    assert growth << 20 < 250 * _FILES + (64 << 20)
