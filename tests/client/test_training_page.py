"""The code of docs/training.md runs, from the first block to the last."""

import io
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from tests.client.pages import run, upload
from tests.client.sites import Site


def png(value: int) -> bytes:
    out = io.BytesIO()
    import_module("PIL.Image").fromarray(np.full((4, 6, 3), value, np.uint8)).save(out, "png")
    return out.getvalue()


def test_the_code_of_the_page_runs(site: Site, bucket_name: str, tmp_path: Path) -> None:
    upload(site.client, site.name, tmp_path / "photos.tar", "png", [png(value) for value in range(40)])
    labels = f"{site.name}--labels"
    site.client.add_datas3t(labels, bucket=bucket_name)
    upload(site.client, labels, tmp_path / "labels.tar", "json", [b'{"value": %d}' % value for value in range(30)])
    learned: list[tuple[Any, ...]] = []
    known: dict[str, Any] = {"client": site.client, "learn": lambda *values: learned.append(values)}
    run("training.md", known, {'"photos")': f'"{site.name}")', 'datas3t("labels")': f'datas3t("{labels}")'})
    assert [len(values[0]) for values in learned[:20]] == [4] * 20  # two epochs of contents
    assert all(values[0].shape == (4, 4, 6, 3) for values in learned[20:30])
    assert all(image[0, 0, 0] == label["value"] for image, label in learned[30:])
    assert len(learned) == 60
    assert len(known["third"]) == 4
    assert not {*known["third"]} & {*known["first"], *known["second"]}
    assert len(known["saved"]) < 220  # with the blanks of json.dumps
    assert len(known["keys"]) == 256
