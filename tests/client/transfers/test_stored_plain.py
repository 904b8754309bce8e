"""SeaweedFS stores what our clients send as it is: to read a range of a compressed chunk, it decompresses 4 MiB."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.client.archives import MIB
from tests.client.sites import Site
from tests.support.tars import write_archive

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services


@pytest.mark.parametrize("size", [8 * MIB, 24 * MIB], ids=["one PUT", "parts"])
def test_archives_of_small_datapoints_are_not_compressed(
    site: Site, services: "Services", tmp_path: Path, size: int
) -> None:
    write_archive(tmp_path / "1.tar", 1, 0, [100] * (size // 1024))  # four fifths of which are zeros
    before = stored(services, site.bucket)
    site.client.upload_tar(site.name, tmp_path / "1.tar")
    assert stored(services, site.bucket) - before >= (tmp_path / "1.tar").stat().st_size


def stored(services: "Services", bucket: str) -> int:
    """Return the bytes of a bucket's volumes in SeaweedFS."""
    return sum(file.stat().st_size for file in (services.data_dir / "s3").rglob(f"{bucket}_*.dat"))
