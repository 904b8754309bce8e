"""What reading costs, as it is learnt: pure arithmetic on figures and a clock."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datas3t.client._reading import costs as _costs
from datas3t.client._reading.costs import Costs

MIB = 1 << 20


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(_costs, "time", SimpleNamespace(monotonic=made))
    return made


def learnt(latency: float = 2e-3, speed: float = 200e6, per_request: float | None = None) -> Costs:
    """Costs that have seen an endpoint like this."""
    costs = Costs()
    costs.note(8, 64 * MIB, 8, latency + 64 * MIB / speed, latency)
    if per_request is not None:
        costs.note(1000, 1000, 16, latency + 1000 * (per_request + 1 / speed), latency)
    return costs


def test_the_latency_is_the_least_that_was_seen_lately(clock: Clock) -> None:
    costs = Costs()
    for seen, least in ((0.030, 0.030), (0.050, 0.030), (0.020, 0.020), (0.040, 0.020)):
        costs.note_latency(seen)
        assert costs.latency == least
        clock.now += 1


def test_a_latency_is_forgotten_once_it_was_long_ago(clock: Clock) -> None:
    costs = Costs()
    costs.note_latency(0.010)
    clock.now += _costs._LATELY - 0.1
    costs.note_latency(0.050)
    assert costs.latency == 0.010
    clock.now += 0.2
    costs.note_latency(0.050)
    assert costs.latency == 0.050


def test_a_latency_seen_again_lasts_as_long_again(clock: Clock) -> None:
    costs = Costs()
    for _ in range(3):
        costs.note_latency(0.010)
        clock.now += _costs._LATELY - 1
    costs.note_latency(0.050)
    assert costs.latency == 0.010


@pytest.mark.parametrize(("seen", "believed"), [(0.0, 50e-6), (1e-9, 50e-6), (60.0, 2.0)])
def test_a_latency_beyond_belief_is_the_nearest_believable_one(seen: float, believed: float) -> None:
    costs = Costs()
    costs.note_latency(seen)
    assert costs.latency == believed


def test_the_speed_is_the_greatest_that_was_seen_lately(clock: Clock) -> None:
    costs = Costs()
    for seen, greatest in ((50e6, 50e6), (40e6, 50e6), (100e6, 100e6), (60e6, 100e6)):
        costs.note(8, 64 * MIB, 8, 0.01 + 64 * MIB / seen, 0.01)
        assert 1 / costs.per_byte == pytest.approx(greatest)
    clock.now += _costs._LATELY
    costs.note(8, 64 * MIB, 8, 0.01 + 64 * MIB / 30e6, 0.01)
    assert 1 / costs.per_byte == pytest.approx(30e6)


def test_few_bytes_say_nothing_about_the_speed() -> None:
    costs = Costs()
    before = costs.per_byte
    costs.note(1, 1 * MIB, 1, 5.0, 0.01)
    costs.note(1000, 10 * MIB, 16, 5.0, 0.01)
    assert costs.per_byte == before


def test_many_small_requests_tell_what_one_more_takes() -> None:
    costs = Costs()
    costs.note(1000, 100_000, 16, 0.01 + 1000 * 500e-6, 0.01)
    assert costs.per_request == pytest.approx(500e-6)
    for _ in range(30):
        costs.note(1000, 100_000, 16, 0.01 + 1000 * 200e-6, 0.01)
    assert costs.per_request == pytest.approx(200e-6, rel=0.01)


def test_the_bytes_of_small_requests_are_not_laid_to_the_requests() -> None:
    costs = learnt(speed=100e6)
    took = 1000 * (300e-6 + 16_384 / 100e6)
    costs.note(1000, 1000 * 16_384, 16, 2e-3 + took, 2e-3)
    assert costs.per_request == pytest.approx(300e-6)


def test_few_requests_say_nothing_about_many() -> None:
    costs = Costs()
    before = costs.per_request
    costs.note(15, 1500, 4, 5.0, _costs._LATENCY)
    costs.note(100, 10_000, 100, 5.0, _costs._LATENCY)
    assert costs.per_request == before


def test_the_gap_grows_with_what_a_request_costs() -> None:
    gaps = [learnt(per_request=each).gap for each in (50e-6, 100e-6, 1e-3, 5e-3)]
    assert gaps == sorted(set(gaps))
    assert gaps[1] == pytest.approx(100e-6 * 200e6, rel=0.01)


def test_the_gap_shrinks_with_what_a_byte_costs() -> None:
    gaps = [learnt(speed=speed, per_request=1e-3).gap for speed in (1e9, 200e6, 50e6, 10e6)]
    assert gaps == sorted(set(gaps), reverse=True)


SECONDS = st.floats(0, 100)
NOTES = st.tuples(st.integers(1, 10_000), st.integers(0, 1 << 36), st.integers(1, 256), SECONDS, SECONDS)


@given(st.lists(NOTES, max_size=10), st.integers(1, 100_000), st.integers(0, 1 << 40))
def test_whatever_is_noted_the_figures_stay_within_bounds(
    notes: list[tuple[int, int, int, float, float]], count: int, size: int
) -> None:
    costs = Costs()
    for note in notes:
        costs.note(*note)
    assert _costs._NARROWEST <= costs.gap <= _costs._WIDEST
    assert 5e-5 <= costs.latency <= 2
    assert 0 < costs.per_request <= 0.2
    parallelism = costs.parallelism(count, size)
    assert 1 <= parallelism <= min(count, _costs._MOST)
    assert parallelism >= min(count, _costs._LEAST) or size > 0
    assert parallelism == 1 or parallelism * size / count <= _costs._IN_FLIGHT


def test_more_requests_wait_at_a_time_where_the_latency_is_long() -> None:
    found = [learnt(latency=each, per_request=200e-6).parallelism(10_000, 0) for each in (1e-4, 5e-3, 10e-3, 1.0)]
    assert found == [_costs._LEAST, 50, 100, _costs._MOST]


def test_bytes_in_flight_are_bounded() -> None:
    costs = learnt(latency=1.0)
    assert costs.parallelism(1000, 1000 * 8 * MIB) == _costs._IN_FLIGHT // (8 * MIB)
    assert costs.parallelism(10, 10 << 30) == 1


def test_a_crowd_halves_what_is_allowed_and_successes_let_it_grow_again() -> None:
    costs = learnt(latency=1.0)
    assert costs.parallelism(1000, 0) == 256
    costs.note_crowd(256)
    assert costs.parallelism(1000, 0) == 128
    costs.note_crowd(128)
    assert costs.parallelism(1000, 0) == 64
    seen = []
    for _ in range(20):
        costs.note(10, 100, 10, 1.1, 1.0)
        seen.append(costs.parallelism(1000, 0))
    assert seen == sorted(seen)
    assert 64 < seen[0] < 80
    assert seen[-1] == 256


def test_however_crowded_it_is_one_request_runs_and_that_grows_too() -> None:
    costs = Costs()
    for _ in range(20):
        costs.note_crowd(costs.parallelism(1000, 0))
    assert costs.parallelism(1000, 0) == 1
    for _ in range(10):
        costs.note(10, 100, 1, 0.1, 0.01)
    assert costs.parallelism(1000, 0) > 1
