"""Random faults from a seed: what a bad network and an overloaded S3 do to requests.

relay.rule = RandomFaults(seed, {"busy": 0.02, "reset": 0.01}, only=b"X-Amz-Signature")
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping

from tests.support.faults import Fault

KINDS: Mapping[str, Callable[[random.Random], Fault]] = {
    "busy": lambda _: Fault(status=503),
    "throttled": lambda _: Fault(status=429, retry_after=1),
    "cut": lambda generator: Fault(cut_after=generator.randrange(6_000)),
    "stalled": lambda generator: Fault(stall_after=generator.randrange(2_000)),
    "reset": lambda _: Fault(refuse=True),
    "other object": lambda _: Fault(other_object=True),
}


class RandomFaults:
    """A rule for a relay: requests whose first line contains `only` get a fault of each kind with its probability.

    `counts` has the number of faults by kind. A response that is too short to be cut or to stall passes unchanged.
    """

    def __init__(self, seed: int, probabilities: Mapping[str, float], only: bytes = b"") -> None:
        assert sum(probabilities.values()) <= 1
        self.counts: Counter[str] = Counter()
        self._generator = random.Random(seed)
        self._probabilities = dict(probabilities)
        self._only = only

    def __call__(self, line: bytes) -> Fault:
        """Return the fault for the request with this first line."""
        if self._only not in line:
            return Fault()
        drawn = self._generator.random()
        for kind, probability in self._probabilities.items():
            if drawn < probability:
                self.counts[kind] += 1
                return KINDS[kind](self._generator)
            drawn -= probability
        return Fault()
