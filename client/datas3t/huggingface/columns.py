"""Columns of a dataset: which there are follows from the names of datapoints."""

from collections.abc import Mapping
from typing import Any

from datasets import Audio, Features, Image, Value

from datas3t.client import Datapoint
from datas3t.training.samples import Sample

_IMAGES = frozenset(["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"])
_SOUNDS = frozenset(["wav", "flac", "mp3", "ogg", "opus"])


def column_of(extension: str) -> str:
    """Return the name of the column for contents with this extension."""
    if extension.lower() in _IMAGES:
        return "image"
    if extension.lower() in _SOUNDS:
        return "audio"
    return "text" if extension.lower() == "txt" else "content"


def features_of(sample: Sample, decode: bool) -> Features:
    """Return the columns for samples like this one."""
    if isinstance(sample, Mapping):
        parts = {name: part for name, part in sample.items() if name != "key"}
        columns = {name: _feature("content" if part is None else column_of(part.extension), decode)
                   for name, part in parts.items()}  # fmt: skip
        return Features({"key": Value("int64")} | columns)
    column = column_of(sample.extension)
    return Features({"key": Value("int64"), "name": Value("string"), column: _feature(column, decode)})


def _feature(column: str, decode: bool) -> Any:
    if column == "image":
        return Image(decode=decode)
    if column == "audio":
        return Audio(decode=decode)
    return Value("string" if column == "text" else "binary")


def row_of(sample: Sample, features: Features) -> dict[str, Any]:
    """Return a sample as a row with these columns. What a sample has more than them is left out."""
    if isinstance(sample, Mapping):
        return {name: _value(sample.get(name), features[name]) if name != "key" else sample["key"] for name in features}
    known = {"key": sample.key, "name": sample.name, "size": sample.size}
    return {name: known[name] if name in known else _value(sample, feature) for name, feature in features.items()}


def _value(datapoint: Datapoint | None, feature: Any) -> Any:
    if datapoint is None:
        return None
    if isinstance(feature, Value):
        return datapoint.content.decode() if feature.dtype == "string" else datapoint.content
    return {"path": datapoint.name, "bytes": datapoint.content}
