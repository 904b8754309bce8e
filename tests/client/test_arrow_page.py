"""The code of docs/arrow.md runs."""

from pathlib import Path

import pyarrow.dataset
import pytest

from tests.client.pages import run, upload
from tests.client.sites import Site

CONTENTS = [b"%d" % number * (number % 7) for number in range(200)]


# dask reads `datetime.utcnow`, and sets options of pandas that it will remove
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_code_of_the_page_runs(site: Site, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    upload(site.client, site.name, tmp_path / "photos.tar", "png", CONTENTS)
    site.client.datas3t(site.name).table("labels").append(
        [{"key": key, "label": "cat" if key % 2 else "dog"} for key in range(100, 300)]
    )
    out = tmp_path / "parquet"
    known = run("arrow.md", {"client": site.client}, {'"photos")': f'"{site.name}")', "photos-parquet": str(out)})
    assert len(known["frame"]) == 200
    assert known["total"] == sum(map(len, CONTENTS)) == known["sizes"]["size"].sum()
    assert pyarrow.dataset.dataset(out).to_table()["content"].to_pylist() == CONTENTS
    printed = capfd.readouterr().out
    assert f" {sum(map(len, CONTENTS[::2]))} " in printed
    assert "00000000000000000100.png" in printed
