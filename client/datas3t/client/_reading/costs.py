"""What reading costs at an endpoint, measured as it goes: it tells what is fetched as one, and how much at a time.

The model: n requests and b bytes take  n * per_request + b * per_byte  seconds, once there is enough to do for all
connections, and `latency` more before the first byte. Two neighbours are fetched as one while the bytes between them
cost less than another request does. As in congestion control by BBR, the latency is the least that was seen lately and
the speed the greatest: everything else is our own queueing.
"""

import math
import time
from collections.abc import Callable

WORK = 40e-6  # seconds of our own for a request, whatever the endpoint is: measured with pycurl on loopback
_LATENCY, _SPEED = 2e-3, 200e6  # until something is known: seconds, bytes a second
_LATENCIES, _COSTS = (50e-6, 2.0), (WORK / 2, 50e-3)  # seconds that are believed
_SPEEDS = (5e6, 10e9)  # bytes a second that are believed
_LATELY = 30.0  # seconds for which an extreme counts
_SHARE = 0.3  # of a new figure in a mean
_CROWD = 2  # requests for each place from which on they cost what they cost in bulk
_BULK, _LARGE = 4 << 20, 256 << 10  # bytes of a transfer, and of its requests, whose speed says something
_SMALL = 32 << 10  # bytes of requests whose number is what counts
_LEAST, _MOST = 32, 256  # requests at a time
_GROWTH = 1.1  # with each success after a crowd
_IN_FLIGHT = 64 << 20  # bytes at a time
_NARROWEST, _WIDEST = 4 << 10, 2 << 20  # bytes of a gap


class Costs:
    """The figures of one endpoint. Threads may share it: a figure that is lost is measured again."""

    def __init__(self) -> None:
        self._latency = _Extreme(_LATENCY, min)
        self._speed = _Extreme(_SPEED, max)
        self._per_request: float | None = None
        self._allowed = float(_MOST)

    @property
    def latency(self) -> float:
        """Seconds to the first byte of an answer."""
        return self._latency.value

    @property
    def per_request(self) -> float:
        """Seconds that one more request takes among many."""
        if self._per_request is not None:
            return self._per_request
        return WORK + self.latency / self.parallelism(_MOST, 0)

    @property
    def per_byte(self) -> float:
        """Seconds that one more byte takes."""
        return 1 / self._speed.value

    @property
    def gap(self) -> int:
        """The bytes that cost as much as a request among many."""
        return round(min(max(self.per_request / self.per_byte, _NARROWEST), _WIDEST))

    def parallelism(self, count: int, size: int) -> int:
        """How many of `count` requests of `size` bytes in all should be under way at a time: as many as can be done
        while one of them waits, twice over, so that there may turn out to be more; fewer where S3 asked for that."""
        wait = 2 * self.latency / max(self._per_request or self.latency / _MOST, WORK)
        wanted = min(max(math.ceil(wait), _LEAST), math.ceil(self._allowed))
        return max(1, min(wanted, count, _IN_FLIGHT * count // size if size else count))

    def note_crowd(self, parallelism: int) -> None:
        """S3 asked for less: half as many from now on, and then slowly more."""
        self._allowed = max(parallelism / 2, 1.0)

    def note_latency(self, first_byte: float) -> None:
        """Learns from a request alone."""
        if first_byte < self._latency.value or time.monotonic() >= self._latency.until:
            self._latency.see(_within(first_byte, *_LATENCIES))

    def note(self, count: int, size: int, parallelism: int, seconds: float, first_byte: float) -> None:
        """Learns from `count` requests that took so long, with the least seconds to a first byte among them."""
        self.note_latency(first_byte)
        self._allowed = min(self._allowed * _GROWTH, _MOST)
        took, mean = max(seconds - first_byte, 1e-6), size / count
        if mean >= _LARGE and size >= _BULK:
            self._speed.see(_within(size / took, *_SPEEDS))
        elif mean <= _SMALL and count >= max(_CROWD * parallelism, _LEAST):
            bytes_took = mean * self.per_byte if self._speed.seen else 0.0
            new, old = _within(took / count - bytes_took, *_COSTS), self._per_request
            self._per_request = new if old is None else old + _SHARE * (new - old)


class _Extreme:
    """The least, or greatest, of what was seen lately."""

    def __init__(self, value: float, choose: Callable[[float, float], float]) -> None:
        self.value = value
        self._choose = choose
        self.until = 0.0

    @property
    def seen(self) -> bool:
        """Whether it is more than a guess."""
        return self.until > 0

    def see(self, value: float) -> None:
        now = time.monotonic()
        if now >= self.until or self._choose(value, self.value) == value:
            self.value, self.until = value, now + _LATELY


def _within(value: float, least: float, most: float) -> float:
    return min(max(value, least), most)
