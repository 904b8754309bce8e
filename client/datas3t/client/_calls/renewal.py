"""Renewing presigned URLs: when the URLs that the server signed together must be signed again.

The server signs URLs in batches, such as a thousand parts of an upload, and returns when they expire. A batch is
renewed in two cases:

- It expires soon: no request should start with a URL that expires before the request ends.
- S3 refused one of its URLs (status 403), because the local clock is wrong or the signing credentials were replaced.
  The engine then requests the URL again with `refused` set. All requests in flight use the same batch and are refused
  at about the same time, so the first refusal renews the batch, and the others get its new URLs.

If S3 also refuses the new URLs, the engine gives up after as many renewals as a request has retries.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

_MARGIN = 60.0  # seconds before their end at which URLs are no longer used; a tenth of their life if that is less
_SAME_REFUSAL = 1.0  # seconds; a refusal within this time after a renewal concerns the URLs before it
_SIGNED_AT_ONCE = 1000  # parts per call; the server signs no more
_MOST_HELD = 2000  # signed parts kept in memory; about 1 kB each

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Lifetime:
    """The time during which a batch of URLs may be used.

    Attributes:
        signed_at: When the batch arrived, in seconds of the monotonic clock.
        stale_at: When to stop using its URLs, in seconds since the epoch; infinite if the local clock is so wrong that
            they seem to have ended already. Then only a refusal by S3 shows their end.
        ends_at: When the first of its URLs ends, in seconds since the epoch.
    """

    signed_at: float
    stale_at: float
    ends_at: float

    @classmethod
    def until(cls, *expires_at: Timestamp) -> "Lifetime":
        """Return the lifetime of URLs that were signed just now, given when they end: one time for each response."""
        end = min(each.ToMicroseconds() for each in expires_at) / 1e6
        left = end - time.time()
        return cls(time.monotonic(), end - min(_MARGIN, left / 10) if left > 0 else math.inf, end)

    def earlier(self, share: float) -> "Lifetime":
        """Return the lifetime with `stale_at` earlier by this share of a tenth of what is left."""
        return replace(self, stale_at=self.stale_at - share * max(self.ends_at - time.time(), 0.0) / 10)

    def is_over(self, refused: bool = False) -> bool:
        """Return whether the batch must be renewed before another of its URLs is used.

        Args:
            refused: S3 has refused the URL that the caller got before.
        """
        if refused and time.monotonic() - self.signed_at > _SAME_REFUSAL:
            return True
        return time.time() >= self.stale_at


class SignedParts(Generic[T]):
    """The signed parts of an open upload or aggregate, by number from 1, signed in batches when they are needed.

    Args:
        sign: Has the server sign the parts with these numbers, and returns them by number, with their lifetime. There
            may be no numbers: the response then renews only what is signed with every part, such as an index's URL.
    """

    def __init__(self, sign: Callable[[Sequence[int]], tuple[dict[int, T], Lifetime]]) -> None:
        self._sign = sign
        self._parts: dict[int, T] = {}
        self._lifetime: Lifetime | None = None

    def get(self, number: int, count: int, refused: bool = False) -> T:
        """Return a part. If it must be signed first, many of the parts after it are signed with it.

        Args:
            number: The number of the part, from 1.
            count: The number of all parts.
            refused: S3 has refused the URL that this part had before.
        """
        renew = self._is_over(refused)
        if renew or number not in self._parts:
            self.sign(range(number, min(number + _SIGNED_AT_ONCE, count + 1)), renew)
        return self._parts[number]

    def renew_if_over(self, refused: bool = False) -> None:
        """Renew what is signed with every part, if its end is near or S3 has refused it."""
        if self._is_over(refused):
            self.sign((), renew=True)

    def sign(self, numbers: Sequence[int], renew: bool = False) -> None:
        """Have the server sign these parts now; with `renew`, all others are signed again when they are needed."""
        if renew or self._is_over() or len(self._parts) > _MOST_HELD:
            self._parts.clear()
        self.add(*self._sign(numbers))

    def add(self, parts: dict[int, T], lifetime: Lifetime) -> None:
        """Keep parts that were signed just now. Parts kept from before end earlier, so their lifetime still counts."""
        if not self._parts:
            self._lifetime = lifetime
        self._parts |= parts

    def _is_over(self, refused: bool = False) -> bool:
        return self._lifetime is None or self._lifetime.is_over(refused)
