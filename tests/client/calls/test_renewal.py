"""Renewal of presigned URLs."""

import math
import time
from collections.abc import Sequence

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from datas3t.client._calls.renewal import Lifetime, SignedParts


def in_seconds(seconds: float) -> Timestamp:
    return Timestamp(seconds=int(time.time() + seconds))


class Signer:
    """Signs parts with numbered URLs, and records which parts each call asked for."""

    def __init__(self, lifetime: float = 3600) -> None:
        self.lifetime = lifetime
        self.calls: list[list[int]] = []
        self.parts = SignedParts(self._sign)

    def _sign(self, numbers: Sequence[int]) -> tuple[dict[int, str], Lifetime]:
        self.calls.append(list(numbers))
        urls = {number: f"{number}, call {len(self.calls)}" for number in numbers}
        return urls, Lifetime.until(in_seconds(self.lifetime))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list with one number: by how many seconds the clocks are ahead, 0 at first."""
    ahead = [0.0]
    now, monotonic = time.time, time.monotonic
    monkeypatch.setattr(time, "time", lambda: now() + ahead[0])
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + ahead[0])
    return ahead


def test_urls_are_used_until_a_minute_before_the_first_of_them_ends(clock: list[float]) -> None:
    lifetime = Lifetime.until(in_seconds(7200), in_seconds(3600))
    clock[0] = 3530
    assert not lifetime.is_over()
    clock[0] = 3541
    assert lifetime.is_over()


def test_short_lived_urls_are_used_for_nine_tenths_of_their_life(clock: list[float]) -> None:
    lifetime = Lifetime.until(in_seconds(100))
    clock[0] = 85
    assert not lifetime.is_over()
    clock[0] = 91
    assert lifetime.is_over()


def test_with_a_clock_that_is_wrong_urls_are_used_until_s3_refuses_them(clock: list[float]) -> None:
    lifetime = Lifetime.until(in_seconds(-3600))
    assert lifetime.stale_at == math.inf
    clock[0] = 10
    assert not lifetime.is_over()
    assert lifetime.is_over(refused=True)


def test_urls_refused_together_are_renewed_once(clock: list[float]) -> None:
    signer = Signer()
    assert signer.parts.get(1, 3) == "1, call 1"
    clock[0] = 10
    assert [signer.parts.get(number, 3, refused=True) for number in (1, 2, 3)] == [
        "1, call 2",
        "2, call 2",
        "3, call 2",
    ]
    clock[0] = 20
    assert signer.parts.get(1, 3, refused=True) == "1, call 3"


def test_parts_are_signed_in_batches_and_again_when_they_end(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datas3t.client._calls.renewal._SIGNED_AT_ONCE", 2)
    signer = Signer()
    for number in range(1, 6):
        signer.parts.get(number, 5)
    assert signer.calls == [[1, 2], [3, 4], [5]]
    clock[0] = 3600
    signer.parts.get(4, 5)
    assert signer.calls[3:] == [[4, 5]]


def test_parts_signed_earlier_decide_when_all_are_renewed(clock: list[float]) -> None:
    signer = Signer()
    signer.parts.sign([1])
    clock[0] = 3000
    signer.parts.sign([2])
    clock[0] = 3550
    assert signer.parts.get(2, 2) == "2, call 3"


def test_no_more_parts_are_held_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datas3t.client._calls.renewal._MOST_HELD", 1)
    signer = Signer()
    signer.parts.sign([1, 2])
    signer.parts.sign([3])
    signer.parts.get(1, 1)
    assert signer.calls == [[1, 2], [3], [1]]


def test_what_is_signed_beside_the_parts_is_renewed_with_them(clock: list[float]) -> None:
    signer = Signer()
    signer.parts.renew_if_over()
    signer.parts.renew_if_over()
    assert signer.calls == [[]]
    clock[0] = 10
    signer.parts.renew_if_over(refused=True)
    assert signer.calls == [[], []]
