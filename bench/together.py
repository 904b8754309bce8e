"""The workload that reads small batches of random datapoints, as training does."""

from bench.random_reads import SDK
from bench.report import Goal, Report, ratios
from bench.sites import Sites
from bench.turns import Entrant, Order, contest

_BATCH, _COUNT = 64, 16
ONE_BY_ONE = "SDK, a `get_many` for each batch"
AT_ONCE = "SDK, one `get_many` for all"


def small_batches(report: Report, sites: Sites, rounds: int) -> None:
    """Measure `batches` on nginx, with and without added latency."""
    keys = sites.keys[: _BATCH * _COUNT]
    expected = sites.digest(keys)
    entrants = [Entrant(name, SDK.kind) for name in ("SDK, `batches`", ONE_BY_ONE, AT_ONCE)]

    def order(entrant: Entrant, _: int) -> Order:
        if entrant.name == entrants[0].name:
            return Order("together", (keys, _BATCH), expected)
        return Order("random", (keys, len(keys) if entrant.name == AT_ONCE else _BATCH), expected)

    for site in (sites.fast, sites.far):
        if site:
            results = contest(site.place, site.front, entrants, rounds, order)
            report.title(f"{_COUNT} batches of {_BATCH} random datapoints: {site.title}")
            report.rates(results, sites.sizes.size)
            report.goals([Goal("faster than one by one", ratios(results, entrants[0].name, ONE_BY_ONE), 1)])
