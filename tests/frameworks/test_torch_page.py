"""The code of docs/torch.md runs, and examples/train_torch.py goes on exactly after kill -9."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datas3t.archive import names, write
from datas3t.client import Client, Datas3t
from tests.frameworks.datasets import Uploader

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]


def upload(uploader: Uploader, extension: str, contents: list[bytes]) -> Datas3t:
    """Upload contents with the keys from 0 on."""
    path = uploader.folder / f"{uploader.name}.tar"
    entries = (
        write.header(names.entry_name(key, extension), len(content)) + content + write.padding(len(content))
        for key, content in enumerate(contents)
    )
    path.write_bytes(b"".join(entries) + write.END)
    uploader.client.upload_tar(uploader.name, path)
    return uploader.handle


def png(value: int) -> bytes:
    image = pytest.importorskip("PIL.Image")
    out = io.BytesIO()
    image.fromarray(np.full((4, 6, 3), value, np.uint8)).save(out, "png")
    return out.getvalue()


def test_the_code_of_the_page_runs(uploaders: Callable[[], Uploader]) -> None:
    photos = upload(uploaders(), "png", [png(value) for value in range(40)])
    labels = upload(uploaders(), "json", [b'{"value": %d}' % value for value in range(40)])
    learned: list[Any] = []
    known: dict[str, Any] = {"client": Client(photos._session.url), "learn": learned.append}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs/torch.md").read_text(), re.DOTALL):
        code = block.replace('"photos")', f'"{photos.name}")').replace('datas3t("labels")', f'datas3t("{labels.name}")')
        exec(compile(code, "docs/torch.md", "exec"), known)
    assert all(tuple(batch.shape) == (4, 4, 6, 3) for batch in learned)
    epoch, resumed, stream = learned[:10], learned[10:30], learned[30:]
    values = [[int(image[0, 0, 0]) for batch in part for image in batch] for part in (epoch, resumed[:10], stream)]
    assert [sorted(each) for each in values] == [list(range(40))] * 3
    assert values[0] == values[1] != sorted(values[0])
    assert known["sample"]["key"] == 0


def command(photos: Datas3t, checkpoint: Path, workers: int) -> list[str]:
    options = {"server-url": photos._session.url, "datas3t": photos.name, "checkpoint": checkpoint, "workers": workers}
    return [
        sys.executable,
        str(ROOT / "examples/train_torch.py"),
        *(f"--{name}={each}" for name, each in options.items()),
    ]


@pytest.mark.timeout(400)  # three processes import PyTorch
def test_the_example_goes_on_exactly_after_kill_9(uploaders: Callable[[], Uploader], tmp_path: Path) -> None:
    contents = [json.dumps({"x": [key / 300, key % 7 / 7], "y": key % 5 / 5}).encode() for key in range(300)]
    points = upload(uploaders(), "json", contents)
    whole = subprocess.run(command(points, tmp_path / "whole.pt", 0), capture_output=True, text=True, check=True)
    lines = whole.stdout.splitlines()
    assert len(lines) == 20
    keys = [[int(key) for line in lines[at : at + 10] for key in line.split()[2:]] for at in (0, 10)]
    assert [sorted(each) for each in keys] == [list(range(300))] * 2

    # Kill a run in its second epoch, once it has printed a step: its checkpoint is of this step, or of the next one.
    with subprocess.Popen(command(points, tmp_path / "killed.pt", 2), stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        seen = [killed.stdout.readline().strip() for _ in range(13)]
        os.kill(killed.pid, signal.SIGKILL)
        seen += [line.strip() for line in killed.stdout if line.endswith("\n")]  # ends with the last of its workers
    resumed = subprocess.run(command(points, tmp_path / "killed.pt", 0), capture_output=True, text=True, check=True)
    rest = resumed.stdout.splitlines()
    assert seen == lines[: len(seen)]
    assert rest == lines[-len(rest) :] if rest else len(seen) == 20
    assert len(seen) + len(rest) in {19, 20}  # a step may have been saved and not printed
    ends = [torch.load(tmp_path / f"{name}.pt") for name in ("whole", "killed")]
    assert all(torch.equal(ends[0]["model"][name], ends[1]["model"][name]) for name in ends[0]["model"])
    assert ends[0]["loader"] == ends[1]["loader"]
