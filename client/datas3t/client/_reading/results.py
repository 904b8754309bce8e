"""What a handle answers, beside bytes."""

from dataclasses import dataclass
from typing import NamedTuple


class Datapoint(NamedTuple):
    """A datapoint: its key, the name of its entry (`00000000000000000042.png`) and its content."""

    key: int
    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Explanation:
    """How keys would be read: `datapoints` different ones of `bytes_used` bytes in all, by `requests` GETs of
    `bytes_fetched` bytes, `parallelism` at a time; neighbours as one where at most `gap` bytes lie between them."""

    datapoints: int
    requests: int
    bytes_used: int
    bytes_fetched: int
    parallelism: int
    gap: int

    @property
    def amplification(self) -> float:
        """Bytes fetched for each byte used."""
        return self.bytes_fetched / self.bytes_used if self.bytes_used else 1.0
