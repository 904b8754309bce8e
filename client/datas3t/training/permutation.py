"""Permutations of 0 to length-1 that are functions, not lists: any place at once, in constant memory.

docs/training-order.md fixes the algorithm and has test vectors. A change of any result here breaks the resumption of
training runs, so there is none without a new version of their state.
"""

from operator import index as integer

import numpy as np
from numpy.typing import NDArray

from datas3t.client import InvalidArgument

Numbers = NDArray[np.int64]
_Words = NDArray[np.uint64]

SORTED = 4096  # up to this length, positions are sorted by their hashes; above it, a Feistel network permutes them
ROUNDS = 12

_STEP = 0x9E3779B97F4A7C15
_WORD = (1 << 64) - 1
_MULTIPLIERS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)


def mixed(words: _Words) -> _Words:
    """Return the words after the last step of SplitMix64, in which each bit depends on each bit of a word."""
    words = (words ^ (words >> _SHIFTS[0])) * _MULTIPLIERS[0]
    words = (words ^ (words >> _SHIFTS[1])) * _MULTIPLIERS[1]
    return words ^ (words >> _SHIFTS[2])


def key_of(*words: int) -> int:
    """Return a number of 64 bits that depends on each of these, which must be 0 to 2^64-1."""
    key = 0
    for word in words:
        key = _one((key + checked_word(word) + _STEP) & _WORD)
    return key


def checked_word(word: int) -> int:
    """Return a number such as a seed.

    Raises:
        InvalidArgument: It is not within 0 to 2^64-1.
    """
    if not 0 <= (number := integer(word)) <= _WORD:
        raise InvalidArgument(f"seeds and epochs are 0 to 2^64-1, but one is {number}")
    return number


class Permutation:
    """A permutation of 0 to length-1, which follows from its key.

    Args:
        length: How many numbers there are, up to 2^62.
        key: 64 bits, as `key_of` returns them.
    """

    __slots__ = ("_key", "_length")

    def __init__(self, length: int, key: int) -> None:
        self._length, self._key = length, key

    def at(self, places: Numbers) -> Numbers:
        """Return the numbers at these places of the permutation."""
        if self._length <= SORTED:
            return self._sorted()[places]
        return self._walked(places, list(enumerate(self._keys(ROUNDS))))

    def places(self, numbers: Numbers) -> Numbers:
        """Return the places of these numbers; the inverse of `at`."""
        if self._length <= SORTED:
            return np.argsort(self._sorted())[numbers]
        return self._walked(numbers, list(enumerate(self._keys(ROUNDS)))[::-1])

    def _sorted(self) -> Numbers:
        return np.argsort(self._keys(self._length), kind="stable")

    def _keys(self, count: int) -> _Words:
        """Return numbers 1 to `count` of the stream of SplitMix64 that starts with the key."""
        steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_STEP)
        return mixed(steps + np.uint64(self._key))

    def _walked(self, numbers: Numbers, rounds: list[tuple[int, np.uint64]]) -> Numbers:
        """Return each number after as many applications of the rounds as it takes to come below the length again."""
        words = self._network(numbers.astype(np.uint64), rounds)
        while len(outside := np.flatnonzero(words >= np.uint64(self._length))):
            words[outside] = self._network(words[outside], rounds)
        return words.astype(np.int64)

    def _network(self, words: _Words, rounds: list[tuple[int, np.uint64]]) -> _Words:
        """Return the words after the rounds of a Feistel network, of which each is its own inverse."""
        bits = (self._length - 1).bit_length()
        shift = np.uint64(bits // 2)
        low, high = np.uint64((1 << bits // 2) - 1), np.uint64((1 << bits - bits // 2) - 1)
        left, right = words >> shift, words & low
        for number, key in rounds:
            if number % 2 == 0:
                left = left ^ (mixed(right + key) & high)
            else:
                right = right ^ (mixed(left + key) & low)
        return left << shift | right


def _one(word: int) -> int:
    return int(mixed(np.array([word], np.uint64))[0])
