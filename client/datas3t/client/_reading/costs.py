"""What reading costs at an endpoint, measured while reading. The costs decide how reads are planned.

The model: n requests and b bytes take  n * per_request + b * per_byte  seconds, once there is enough work for all
connections, plus `latency` until the first byte. Two neighbours are fetched by one request if the bytes between them
cost less than a second request. As in BBR congestion control, the latency is the lowest recent measurement and the
speed the highest: slower measurements include queueing that this client caused itself.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

REQUEST_OVERHEAD = 40e-6  # seconds of CPU per request at any endpoint; measured with pycurl on loopback

# Assumptions until something is measured, and the range that measurements are clamped to.
_LATENCY, _MIN_LATENCY, _MAX_LATENCY = 2e-3, 50e-6, 2.0  # seconds
_SPEED, _MIN_SPEED, _MAX_SPEED = 200e6, 5e6, 10e9  # bytes per second
_MIN_PER_REQUEST, _MAX_PER_REQUEST = REQUEST_OVERHEAD / 2, 50e-3  # seconds

_WINDOW = 30.0  # seconds for which the best measurement of latency or speed counts
_SMOOTHING = 0.3  # the weight of a new measurement in the moving average of `per_request`

# Which batches measure what: large requests the speed, many small ones the cost of a request.
_MIN_BATCH_SIZE, _MIN_LARGE_REQUEST = 4 << 20, 256 << 10  # bytes
_MAX_SMALL_REQUEST = 32 << 10  # bytes
_MIN_REQUESTS_PER_CONNECTION = 2  # fewer are dominated by the latency

_MIN_PARALLELISM, _MAX_PARALLELISM = 32, 256  # requests at a time, unless S3 asks for fewer
_GROWTH = 1.1  # factor by which the allowed parallelism grows with each batch after congestion
_MAX_IN_FLIGHT = 64 << 20  # bytes of all requests under way: limits memory
_MIN_GAP, _MAX_GAP = 4 << 10, 2 << 20  # bytes between two datapoints of one request


@dataclass(frozen=True, slots=True)
class Explanation:
    """How `Datas3t.get_many` would read some keys.

    Attributes:
        datapoints: The number of different keys.
        requests: The number of GET requests.
        bytes_used: The sizes of the datapoints' contents together, in bytes.
        bytes_fetched: The bytes that the requests fetch: contents, headers, padding, and gaps between datapoints.
        parallelism: How many requests would be under way at a time.
        gap: Two neighbours are fetched by one request if at most this many bytes lie between them.
    """

    datapoints: int
    requests: int
    bytes_used: int
    bytes_fetched: int
    parallelism: int
    gap: int

    @property
    def amplification(self) -> float:
        """Bytes fetched per byte used."""
        return self.bytes_fetched / self.bytes_used if self.bytes_used else 1.0


class Costs:
    """The measured costs of one endpoint.

    Safe to use from many threads: a measurement that is lost to a race is made again by the next batch.
    """

    def __init__(self) -> None:
        self._latency = _RecentBest(_LATENCY, min)
        self._speed = _RecentBest(_SPEED, max)
        self._per_request: float | None = None
        self._allowed = float(_MAX_PARALLELISM)

    @property
    def latency(self) -> float:
        """Seconds until the first byte of a response."""
        return self._latency.value

    @property
    def per_request(self) -> float:
        """Seconds that one more request takes among many."""
        if self._per_request is not None:
            return self._per_request
        return REQUEST_OVERHEAD + self.latency / self.parallelism(_MAX_PARALLELISM, 0)

    @property
    def per_byte(self) -> float:
        """Seconds that one more byte takes."""
        return 1 / self._speed.value

    @property
    def gap(self) -> int:
        """The number of bytes that cost as much as one more request among many."""
        return round(min(max(self.per_request / self.per_byte, _MIN_GAP), _MAX_GAP))

    def parallelism(self, count: int, size: int) -> int:
        """Return how many of `count` requests for `size` bytes in total to have under way at a time.

        That is twice as many as can be handled during the latency of one, so that a higher optimum can be discovered;
        fewer if S3 asked for fewer, or if their bytes would exceed the limit in memory.
        """
        per_latency = 2 * self.latency / max(self._per_request or self.latency / _MAX_PARALLELISM, REQUEST_OVERHEAD)
        wanted = min(max(math.ceil(per_latency), _MIN_PARALLELISM), math.ceil(self._allowed))
        return max(1, min(wanted, count, _MAX_IN_FLIGHT * count // size if size else count))

    def note_congestion(self, parallelism: int) -> None:
        """Halve the allowed parallelism, because S3 asked for fewer requests; `note_batch` raises it again."""
        self._allowed = max(parallelism / 2, 1.0)

    def note_latency(self, first_byte: float) -> None:
        """Learn from a request that ran alone, whose first byte came after `first_byte` seconds."""
        if first_byte < self._latency.value or time.monotonic() >= self._latency.valid_until:
            self._latency.add(_clamped(first_byte, _MIN_LATENCY, _MAX_LATENCY))

    def note_batch(self, count: int, size: int, parallelism: int, seconds: float, first_byte: float) -> None:
        """Learn from a batch of requests.

        Args:
            count: The number of requests.
            size: Their bytes together.
            parallelism: How many were under way at a time.
            seconds: How long the whole batch took.
            first_byte: The seconds until the first byte of the first response.
        """
        self.note_latency(first_byte)
        self._allowed = min(self._allowed * _GROWTH, _MAX_PARALLELISM)
        took, mean = max(seconds - first_byte, 1e-6), size / count
        if mean >= _MIN_LARGE_REQUEST and size >= _MIN_BATCH_SIZE:
            self._speed.add(_clamped(size / took, _MIN_SPEED, _MAX_SPEED))
        elif mean <= _MAX_SMALL_REQUEST and count >= max(_MIN_REQUESTS_PER_CONNECTION * parallelism, _MIN_PARALLELISM):
            bytes_took = mean * self.per_byte if self._speed.is_measured else 0.0
            new, old = _clamped(took / count - bytes_took, _MIN_PER_REQUEST, _MAX_PER_REQUEST), self._per_request
            self._per_request = new if old is None else old + _SMOOTHING * (new - old)


class _RecentBest:
    """The lowest, or highest, of the recent measurements."""

    def __init__(self, value: float, choose: Callable[[float, float], float]) -> None:
        self.value = value
        self._choose = choose
        self.valid_until = 0.0  # by the monotonic clock

    @property
    def is_measured(self) -> bool:
        """Whether the value is a measurement rather than the initial assumption."""
        return self.valid_until > 0

    def add(self, value: float) -> None:
        now = time.monotonic()
        if now >= self.valid_until or self._choose(value, self.value) == value:
            self.value, self.valid_until = value, now + _WINDOW


def _clamped(value: float, least: float, most: float) -> float:
    return min(max(value, least), most)
