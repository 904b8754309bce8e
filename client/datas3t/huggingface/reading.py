"""Datasets of Hugging Face that read datas3ts: `iterable` and `rows`."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pyarrow as pa
from datasets import Dataset, Features, IterableDataset

from datas3t.client import InvalidArgument, KeySet
from datas3t.huggingface.columns import features_of, row_of
from datas3t.training.joined import Joined
from datas3t.training.samples import Samples, Source

_ROWS = 65_536  # that are looked up together


def iterable(
    source: Source,
    *,
    keys: KeySet | None = None,
    shards: int = 64,
    features: Features | None = None,
    decode: bool = True,
) -> IterableDataset:
    """Return the samples as an IterableDataset, which reads them in key order, with long requests.

    Rows have `key`, `name`, and a column for the content, by the extension of the first datapoint: `image`, `audio`,
    `text`, or else `content`, which is binary. Of several datas3ts, rows have `key` and a column by the name of each.

    The dataset has shards, spans of keys, that ranks (`split_dataset_by_node`) and workers of a DataLoader share, and
    that `shuffle` mixes. Its `state_dict` counts the rows of a shard, and the rows that it has passed are read again:
    those of one shard at most.

    Args:
        source: A datas3t, several by name, or a `Joined`.
        keys: The keys of the samples; all that there are if it is None.
        shards: How many spans to make. A multiple of ranks times workers shares them evenly.
        features: The columns, instead of those above: `image`, for example, as binary. What it leaves out is not shown.
        decode: Whether images and sound are decoded; else they are dictionaries of `path` and `bytes`.

    Raises:
        InvalidArgument: `shards` is below 1, a key has no sample, or there is no sample and no `features`.
        NotFound: The datas3t does not exist.

    Example:
        >>> photos = iterable(client.datas3t("photos")).shuffle(seed=7, buffer_size=1000)
    """
    if shards < 1:
        raise InvalidArgument(f"shards must be at least 1, but is {shards}")
    samples = Samples(source, keys)
    features = features or _inferred(samples, decode)
    shards = max(min(shards, len(samples)), 1)
    cuts = [len(samples) * number // shards for number in range(shards + 1)]
    spans = list(pairwise(cuts))
    return IterableDataset.from_generator(
        _rows, features=features, gen_kwargs={"spans": spans, "samples": samples, "features": features}
    )


def _rows(spans: list[tuple[int, int]], samples: Samples, features: Features) -> Iterator[dict[str, Any]]:
    """Yield the rows of spans of positions. Hugging Face shares the list `spans` among ranks and workers."""
    for start, stop in spans:
        for sample in samples.scan(samples.keys[start:stop]):
            yield row_of(sample, features)


def rows(source: Source, keys: KeySet | None = None, *, decode: bool = True) -> Dataset:
    """Return the samples as a Dataset for random access, as for training: its rows are in memory, contents are not.

    The table has `key`, `name` and `size`; of several datas3ts, `key`. What `dataset[[7, 42]]` or a DataLoader asks for
    is read by one `get_many` for each batch, and has the columns that `iterable` describes. `shuffle`, `select` and
    `train_test_split` copy no content.

    Args:
        source: A datas3t, several by name, or a `Joined`.
        keys: The keys of the samples; all that there are if it is None.
        decode: Whether images and sound are decoded; else they are dictionaries of `path` and `bytes`.

    Raises:
        InvalidArgument: A key has no sample, or there is none at all.
        NotFound: The datas3t does not exist.

    Example:
        >>> photos = rows(client.datas3t("photos")).shuffle(seed=7)
        >>> loader = torch.utils.data.DataLoader(photos, batch_size=256, collate_fn=list)
    """
    samples = Samples(source, keys)
    reader = _Reader(samples, _inferred(samples, decode))
    return Dataset(_table(samples)).with_transform(reader)


def _table(samples: Samples) -> pa.Table:
    handle = samples.source
    if isinstance(handle, Joined):
        return pa.table({"key": pa.array(samples.keys.take(range(len(samples))))})
    return handle.to_batches(columns=["key", "name", "size"], rows=_ROWS).read_all()


class _Reader:
    """Reads the samples of a batch of rows. It is an object with a name, so that it can be pickled."""

    def __init__(self, samples: Samples, features: Features) -> None:
        self._samples, self._features = samples, features

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        found = [row_of(sample, self._features) for sample in self._samples.read(batch["key"]) if sample is not None]
        columns = {name: [row[name] for row in found] for name in self._features}
        decoded = {name: self._decoded(name, values) for name, values in columns.items()}
        return batch | decoded

    def _decoded(self, name: str, values: list[Any]) -> list[Any]:
        feature = self._features[name]
        if not getattr(feature, "decode", False):
            return values
        return [None if value is None else feature.decode_example(value) for value in values]


def _inferred(samples: Samples, decode: bool) -> Features:
    if not len(samples):
        raise InvalidArgument(f"{samples.name!r} has no datapoint from which columns could follow; give `features`")
    (first,) = samples.read([samples.keys[0]])
    assert first is not None
    return features_of(first, decode)
