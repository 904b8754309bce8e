"""The code of docs/training.md runs, from the first block to the last."""

import io
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from datas3t.archive import names, write
from datas3t.client import Client
from tests.client.sites import Site

PAGE = (Path(__file__).parents[2] / "docs/training.md").read_text()


def upload(client: Client, name: str, path: Path, extension: str, contents: list[bytes]) -> None:
    entries = (
        write.header(names.entry_name(key, extension), len(content)) + content + write.padding(len(content))
        for key, content in enumerate(contents, 100)
    )
    path.write_bytes(b"".join(entries) + write.END)
    client.upload_tar(name, path)


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
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        code = block.replace('"photos")', f'"{site.name}")').replace('datas3t("labels")', f'datas3t("{labels}")')
        exec(compile(code, "docs/training.md", "exec"), known)
    assert [len(values[0]) for values in learned[:20]] == [4] * 20  # two epochs of contents
    assert all(values[0].shape == (4, 4, 6, 3) for values in learned[20:30])
    assert all(image[0, 0, 0] == label["value"] for image, label in learned[30:])
    assert len(learned) == 60
    assert len(known["third"]) == 4
    assert not {*known["third"]} & {*known["first"], *known["second"]}
    assert len(known["saved"]) < 220  # with the blanks of json.dumps
    assert len(known["keys"]) == 256
