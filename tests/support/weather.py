"""Faults at random from a seed: what a bad day of S3 and of the network does to requests.

between.rule = Weather(seed, {"busy": 0.02, "reset": 0.01}, only=b"X-Amz-Signature")
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping

from tests.support.faults import Fault

KINDS: Mapping[str, Callable[[random.Random], Fault]] = {
    "busy": lambda _: Fault(status=503),
    "throttled": lambda _: Fault(status=429, retry_after=1),
    "cut": lambda chance: Fault(cut_after=chance.randrange(6_000)),
    "stalled": lambda chance: Fault(stall_after=chance.randrange(2_000)),
    "reset": lambda _: Fault(refuse=True),
    "another": lambda _: Fault(another=True),
}


class Weather:
    """The rule of a relay: each request whose first line contains `only` has the fault of a kind with this probability.

    `dealt` counts them. An answer that is shorter than where it should be cut or stall passes whole.
    """

    def __init__(self, seed: int, chances: Mapping[str, float], only: bytes = b"") -> None:
        assert sum(chances.values()) <= 1
        self.dealt: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._chances = dict(chances)
        self._only = only

    def __call__(self, line: bytes) -> Fault:
        if self._only not in line:
            return Fault()
        roll = self._random.random()
        for kind, chance in self._chances.items():
            if roll < chance:
                self.dealt[kind] += 1
                return KINDS[kind](self._random)
            roll -= chance
        return Fault()
