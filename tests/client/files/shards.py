"""Shards as WebDataset and img2dataset write them, and what an import made of them."""

import io
import os
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from datas3t.client import Client, NotFound

Sample = tuple[str, dict[str, bytes]]
"""The `__key__` of a sample, and the content of each field."""


def samples(count: int, start: int = 0) -> list[Sample]:
    """Return samples with images, captions that every third one lacks, and masks."""
    made = []
    for number in range(start, start + count):
        fields = {"jpg": b"image %d " % number * (number % 50), "seg.png": b"mask %d" % number}
        if number % 3:
            fields["txt"] = b"caption %d" % number
        made.append((f"folder/{number:06d}", fields))
    return made


def members(shard: Iterable[Sample]) -> list[tuple[str | bytes, bytes]]:
    """Return the files of samples."""
    return [(f"{key}.{field}", content) for key, fields in shard for field, content in fields.items()]


def written(
    path: Path, files: Iterable[tuple[str | bytes, bytes]], mode: str = "w", tar_format: int = tarfile.PAX_FORMAT
) -> Path:
    """Write a shard with these files, in this order."""
    with tarfile.open(path, mode, format=tar_format, encoding="utf-8") as tar:  # type: ignore[call-overload]
        for name, content in files:
            about = tarfile.TarInfo(os.fsdecode(name))
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return path


def imported(client: Client, datas3ts: Mapping[str, str], keys: Sequence[int]) -> list[Sample]:
    """Return the samples that these datas3ts have, one for each key."""
    found: list[tuple[str, dict[str, bytes]]] = [("", {}) for _ in keys]
    for field, name in datas3ts.items():
        handle = client.datas3t(name)
        try:
            paths = handle.paths(keys)
            datapoints = handle.get_many(keys, missing="none")
        except NotFound:
            continue
        for number, (path, content) in enumerate(zip(paths, datapoints, strict=True)):
            if path is not None and content is not None:
                found[number] = (path.removesuffix(f".{field}"), {**found[number][1], field: content})
            else:
                assert not content
    return found
