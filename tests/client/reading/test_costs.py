"""Measured costs: how they follow from measurements and time, without any I/O."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datas3t.client._reading import costs as _costs
from datas3t.client._reading.costs import Costs

MIB = 1 << 20


class Clock:
    """A monotonic clock that a test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_costs, "time", SimpleNamespace(monotonic=clock))
    return clock


def measured(latency: float = 2e-3, speed: float = 200e6, per_request: float | None = None) -> Costs:
    """Return costs measured at an endpoint with these properties: seconds, bytes per second, seconds."""
    costs = Costs()
    costs.note_batch(8, 64 * MIB, 8, latency + 64 * MIB / speed, latency)
    if per_request is not None:
        costs.note_batch(1000, 1000, 16, latency + 1000 * (per_request + 1 / speed), latency)
    return costs


def test_the_latency_is_the_lowest_recent_measurement(clock: Clock) -> None:
    costs = Costs()
    for seconds, lowest in ((0.030, 0.030), (0.050, 0.030), (0.020, 0.020), (0.040, 0.020)):
        costs.note_latency(seconds)
        assert costs.latency == lowest
        clock.now += 1


def test_an_old_latency_is_forgotten(clock: Clock) -> None:
    costs = Costs()
    costs.note_latency(0.010)
    clock.now += _costs._WINDOW - 0.1
    costs.note_latency(0.050)
    assert costs.latency == 0.010
    clock.now += 0.2
    costs.note_latency(0.050)
    assert costs.latency == 0.050


def test_a_latency_that_is_measured_again_counts_longer(clock: Clock) -> None:
    costs = Costs()
    for _ in range(3):
        costs.note_latency(0.010)
        clock.now += _costs._WINDOW - 1
    costs.note_latency(0.050)
    assert costs.latency == 0.010


@pytest.mark.parametrize(("seconds", "clamped"), [(0.0, 50e-6), (1e-9, 50e-6), (60.0, 2.0)])
def test_an_implausible_latency_is_clamped(seconds: float, clamped: float) -> None:
    costs = Costs()
    costs.note_latency(seconds)
    assert costs.latency == clamped


def test_the_speed_is_the_highest_recent_measurement(clock: Clock) -> None:
    costs = Costs()
    for speed, highest in ((50e6, 50e6), (40e6, 50e6), (100e6, 100e6), (60e6, 100e6)):
        costs.note_batch(8, 64 * MIB, 8, 0.01 + 64 * MIB / speed, 0.01)
        assert 1 / costs.per_byte == pytest.approx(highest)
    clock.now += _costs._WINDOW
    costs.note_batch(8, 64 * MIB, 8, 0.01 + 64 * MIB / 30e6, 0.01)
    assert 1 / costs.per_byte == pytest.approx(30e6)


def test_a_batch_of_few_bytes_does_not_change_the_speed() -> None:
    costs = Costs()
    before = costs.per_byte
    costs.note_batch(1, 1 * MIB, 1, 5.0, 0.01)
    costs.note_batch(1000, 10 * MIB, 16, 5.0, 0.01)
    assert costs.per_byte == before


def test_many_small_requests_measure_the_cost_of_a_request() -> None:
    costs = Costs()
    costs.note_batch(1000, 100_000, 16, 0.01 + 1000 * 500e-6, 0.01)
    assert costs.per_request == pytest.approx(500e-6)
    for _ in range(30):
        costs.note_batch(1000, 100_000, 16, 0.01 + 1000 * 200e-6, 0.01)
    assert costs.per_request == pytest.approx(200e-6, rel=0.01)


def test_the_time_for_bytes_is_not_counted_as_the_cost_of_a_request() -> None:
    costs = measured(speed=100e6)
    took = 1000 * (300e-6 + 16_384 / 100e6)
    costs.note_batch(1000, 1000 * 16_384, 16, 2e-3 + took, 2e-3)
    assert costs.per_request == pytest.approx(300e-6)


def test_a_batch_of_few_requests_does_not_change_the_cost_of_a_request() -> None:
    costs = Costs()
    before = costs.per_request
    costs.note_batch(15, 1500, 4, 5.0, _costs._LATENCY)
    costs.note_batch(100, 10_000, 100, 5.0, _costs._LATENCY)
    assert costs.per_request == before


def test_the_gap_grows_with_the_cost_of_a_request() -> None:
    gaps = [measured(per_request=each).gap for each in (50e-6, 100e-6, 1e-3, 5e-3)]
    assert gaps == sorted(set(gaps))
    assert gaps[1] == pytest.approx(100e-6 * 200e6, rel=0.01)


def test_the_gap_shrinks_with_the_cost_of_a_byte() -> None:
    gaps = [measured(speed=speed, per_request=1e-3).gap for speed in (1e9, 200e6, 50e6, 10e6)]
    assert gaps == sorted(set(gaps), reverse=True)


SECONDS = st.floats(0, 100)
BATCHES = st.tuples(st.integers(1, 10_000), st.integers(0, 1 << 36), st.integers(1, 256), SECONDS, SECONDS)


@given(st.lists(BATCHES, max_size=10), st.integers(1, 100_000), st.integers(0, 1 << 40))
def test_all_costs_stay_within_bounds(batches: list[tuple[int, int, int, float, float]], count: int, size: int) -> None:
    costs = Costs()
    for batch in batches:
        costs.note_batch(*batch)
    assert _costs._MIN_GAP <= costs.gap <= _costs._MAX_GAP
    assert 5e-5 <= costs.latency <= 2
    assert 0 < costs.per_request <= 0.2
    parallelism = costs.parallelism(count, size)
    assert 1 <= parallelism <= min(count, _costs._MAX_PARALLELISM)
    assert parallelism >= min(count, _costs._MIN_PARALLELISM) or size > 0
    assert parallelism == 1 or parallelism * size / count <= _costs._MAX_IN_FLIGHT


def test_a_longer_latency_puts_more_requests_under_way() -> None:
    parallelism = [
        measured(latency=each, per_request=200e-6).parallelism(10_000, 0) for each in (1e-4, 5e-3, 10e-3, 1.0)
    ]
    assert parallelism == [_costs._MIN_PARALLELISM, 50, 100, _costs._MAX_PARALLELISM]


def test_bytes_in_flight_are_limited() -> None:
    costs = measured(latency=1.0)
    assert costs.parallelism(1000, 1000 * 8 * MIB) == _costs._MAX_IN_FLIGHT // (8 * MIB)
    assert costs.parallelism(10, 10 << 30) == 1


def test_congestion_halves_the_parallelism_and_successes_raise_it_again() -> None:
    costs = measured(latency=1.0)
    assert costs.parallelism(1000, 0) == 256
    costs.note_congestion(256)
    assert costs.parallelism(1000, 0) == 128
    costs.note_congestion(128)
    assert costs.parallelism(1000, 0) == 64
    allowed = []
    for _ in range(20):
        costs.note_batch(10, 100, 10, 1.1, 1.0)
        allowed.append(costs.parallelism(1000, 0))
    assert allowed == sorted(allowed)
    assert 64 < allowed[0] < 80
    assert allowed[-1] == 256


def test_lasting_congestion_leaves_one_request_which_grows_again() -> None:
    costs = Costs()
    for _ in range(20):
        costs.note_congestion(costs.parallelism(1000, 0))
    assert costs.parallelism(1000, 0) == 1
    for _ in range(10):
        costs.note_batch(10, 100, 1, 0.1, 0.01)
    assert costs.parallelism(1000, 0) > 1
