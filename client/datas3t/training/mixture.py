"""Mixture: samples of several datasets in fixed shares, as a function of the place in the run."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import index as integer
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from datas3t.client import InvalidArgument, KeySet
from datas3t.training.order import Order, Shuffle
from datas3t.training.permutation import Numbers, Permutation, checked_word, key_of

PERIOD = 10_000  # samples in which the shares are exact

_PERIOD, _PART = 4, 5  # the first word of the keys, after those of an order


class Mixed(NamedTuple):
    """Some samples of a mixture: for each one the number of its part, and its place among the samples of that part."""

    parts: NDArray[np.int64]
    places: NDArray[np.int64]


@dataclass(frozen=True)
class _Stretch:
    """A stretch of a mixture with the same weights."""

    start: int
    number: int
    counts: tuple[int, ...]  # of each part in a period
    before: tuple[int, ...]  # samples of each part in front of the stretch


class Mixture:
    """A mixture of several datasets in fixed shares, such as 70 % of one and 30 % of another.

    Each period of 10,000 samples has exactly its share of each part, in an order of its own. Every part is read in its
    own order, from its first sample on, and again from the beginning, in another order, when it ends. Which sample is
    at a place is a function of the place: so a run resumes anywhere at once, and its state is the place.

    Example:
        >>> mixture = Mixture({"web": 0.7, "books": 0.3}, length=10**9, seed=7)
        >>> sets = {"web": web.keyset, "books": books.keyset}
        >>> parts, keys = mixture.keys(start, start + 256, sets)

    Args:
        weights: The share of each part. They need not be 1 together. A share is rounded to a 10,000th.
        length: How many samples the mixture has.
        seed: Another seed gives another mixture.

    Raises:
        InvalidArgument: A weight is negative or not a number, all are 0, or `length` is negative.
    """

    def __init__(self, weights: Mapping[str, float], length: int, seed: int = 0) -> None:
        self._length, self._seed = integer(length), checked_word(seed)
        if self._length < 0:
            raise InvalidArgument(f"length must be at least 0, but is {length}")
        self._changes: dict[int, dict[str, float]] = {}
        self._names: list[str] = []
        self._stretches: list[_Stretch] = []
        self._add(0, weights)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parts; the number of a part is its place among them."""
        return tuple(self._names)

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"Mixture({self._changes[0]!r}, {self._length}, seed={self._seed})"

    def changed(self, at: int, weights: Mapping[str, float]) -> "Mixture":
        """Return a mixture that is the same up to place `at`, and has other weights from there on.

        No part loses its place: each one continues behind its last sample. There may be new parts.

        Args:
            at: The first place with these weights, behind the last change.
            weights: The share of each part; a part that is left out has none.

        Raises:
            InvalidArgument: `at` is not behind the last change and within the mixture.
        """
        at = integer(at)
        last = self._stretches[-1].start
        if not last < at <= self._length:
            raise InvalidArgument(f"the weights can change behind place {last} of {self._length}, but not at {at}")
        new = Mixture.of(self.description)
        new._add(at, weights)
        return new

    @property
    def description(self) -> dict[str, Any]:
        """What the mixture is, as an object for JSON."""
        changes = [[at, dict(weights)] for at, weights in self._changes.items()]
        return {"version": 1, "length": self._length, "seed": self._seed, "weights": changes}

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> Self:
        """Return the mixture with this description.

        Raises:
            InvalidArgument: It is not the description of a mixture.
        """
        try:
            version, length, seed = description["version"], description["length"], description["seed"]
            (first, weights), *changes = description["weights"]
            if version != 1 or first != 0:
                raise InvalidArgument(f"a mixture of version {version!r} is not known; this datas3t knows 1")
            new = cls(weights, length, seed)
            for at, each in changes:
                new._add(integer(at), each)
        except (KeyError, TypeError, AttributeError) as error:
            if isinstance(error, InvalidArgument):
                raise
            raise InvalidArgument("this is not the description of a mixture") from None
        return new

    def take(self, start: int, stop: int) -> Mixed:
        """Return which samples are at places `start` to `stop`, the latter excluded.

        The places of a part that it returns are consecutive, and are counted on when the part begins again.

        Raises:
            InvalidArgument: Not 0 <= start <= stop <= length.
        """
        start, stop = integer(start), integer(stop)
        if not 0 <= start <= stop <= self._length:
            raise InvalidArgument(f"places {start} to {stop} are not within a mixture of {self._length} samples")
        parts, places = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        while start < stop:
            at = self._stretch_at(start)
            stretch = self._stretches[at]
            end = self._stretches[at + 1].start if at + 1 < len(self._stretches) else self._length
            period, within = divmod(start - stretch.start, PERIOD)
            count = min(stop, end, start - within + PERIOD) - start
            its_parts, its_places = _period(self._seed, stretch.number, period, stretch.counts)
            chosen = its_parts[within : within + count]
            bases = np.array(stretch.before) + np.array(stretch.counts) * period
            parts.append(chosen)
            places.append(its_places[within : within + count] + bases[chosen])
            start += count
        return Mixed(np.concatenate(parts), np.concatenate(places))

    def counts(self, place: int) -> dict[str, int]:
        """Return how many samples of each part are in front of a place."""
        place = integer(place)
        if not 0 <= place <= self._length:
            raise InvalidArgument(f"place {place} is not within a mixture of {self._length} samples")
        return dict(zip(self._names, self._counted(place), strict=True))

    def keys(
        self, start: int, stop: int, sets: Mapping[str, KeySet], *, shuffle: Shuffle = "global"
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the number of the part and the key for each of the places `start` to `stop`, the latter excluded.

        Args:
            start: The first place.
            stop: The place behind the last one.
            sets: The keys of each part.
            shuffle: The order of each part. It has a seed of its own, which follows from the mixture's.

        Raises:
            InvalidArgument: A part has samples here, but no keys; or as `take`.
        """
        parts, places = self.take(start, stop)
        keys = np.empty(len(parts), np.int64)
        for number in np.unique(parts).tolist():
            name, chosen = self._names[number], parts == number
            if not sets.get(name):
                raise InvalidArgument(f"the mixture has samples of {name!r}, of which there are no keys")
            order = Order(len(sets[name]), key_of(_PART, self._seed, number), shuffle)
            keys[chosen] = sets[name].take(order.endless(places[chosen]))
        return parts, keys

    def _add(self, at: int, weights: Mapping[str, float]) -> None:
        before = self._counted(at) if self._stretches else []
        self._names += [name for name in weights if name not in self._names]
        counts = _shares([float(weights.get(name, 0)) for name in self._names])
        self._changes[at] = dict(weights)
        before += [0] * (len(self._names) - len(before))
        self._stretches.append(_Stretch(at, len(self._stretches), tuple(counts), tuple(before)))
        # Earlier stretches have nothing of the new parts.
        more = (0,) * len(self._names)
        self._stretches = [
            replace(each, counts=(*each.counts, *more)[: len(more)], before=(*each.before, *more)[: len(more)])
            for each in self._stretches
        ]

    def _stretch_at(self, place: int) -> int:
        return bisect_right([each.start for each in self._stretches], place) - 1

    def _counted(self, place: int) -> list[int]:
        # At the place of a change, the stretch in front of it counts up to it.
        stretch = self._stretches[max(self._stretch_at(place - 1), 0)]
        period, within = divmod(place - stretch.start, PERIOD)
        parts = _period(self._seed, stretch.number, period, stretch.counts)[0][:within]
        rest = np.bincount(parts, minlength=len(self._names)).tolist()
        return [
            before + count * period + more
            for before, count, more in zip(stretch.before, stretch.counts, rest, strict=True)
        ]


@lru_cache(maxsize=8)
def _period(seed: int, stretch: int, number: int, counts: tuple[int, ...]) -> tuple[Numbers, Numbers]:
    """Return for each sample of a period its part, and its number among the samples of this part in the period."""
    slots = Permutation(PERIOD, key_of(_PERIOD, seed, stretch, number)).at(np.arange(PERIOD, dtype=np.int64))
    parts = np.searchsorted(np.cumsum(counts), slots, "right")
    by_part = np.argsort(parts, kind="stable")
    places = np.empty(PERIOD, np.int64)
    places[by_part] = np.arange(PERIOD) - np.repeat(np.cumsum(counts) - counts, counts)
    for each in (parts, places):
        each.flags.writeable = False
    return parts, places


def _shares(weights: list[float]) -> list[int]:
    """Return how many samples of a period each weight gets: rounded down, and one more where most was cut off."""
    total = sum(weights)
    if not weights or min(weights) < 0 or not 0 < total < float("inf"):
        raise InvalidArgument(f"weights must be at least 0, and one above it, but are {weights}")
    exact = [weight / total * PERIOD for weight in weights]
    counts = [int(each) for each in exact]
    by_rest = sorted(range(len(weights)), key=lambda at: (counts[at] - exact[at], at))
    for at in by_rest[: PERIOD - sum(counts)]:
        counts[at] += 1
    return counts
