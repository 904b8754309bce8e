"""The workload that reads all datapoints in key order."""

from bench.random_reads import BARE, ENGINE, SDK
from bench.report import Goal, Report, ratios
from bench.sites import Site, Sites
from bench.turns import Entrant, Order, Result, contest

VIEWS = Entrant("SDK, `copy=False`", "bench.readers:SdkViews")
WEBDATASET = "webdataset, the same archives"


def scan(report: Report, sites: Sites, rounds: int) -> None:
    """Measure `scan` over all keys on nginx, and again with added latency or on SeaweedFS."""
    if sites.fast:
        results = _scanned(report, sites, sites.fast, rounds)
        report.goals(
            [
                Goal("at least 0.85 of the engine's sequential ceiling", ratios(results, "SDK", ENGINE.name), 0.85),
                Goal("at least 0.6 of bare pycurl", ratios(results, "SDK", BARE.name), 0.6),
                Goal("the same with `copy=False`", ratios(results, VIEWS.name, BARE.name), 0.6),
                Goal("at least 3 times webdataset on the same archives", ratios(results, "SDK", WEBDATASET), 3),
            ]
        )
    _scanned(report, sites, sites.far or sites.seaweed, max(1, rounds // 2))


def _scanned(report: Report, sites: Sites, site: Site, rounds: int) -> dict[str, Result]:
    expected = sites.digest(range(sites.sizes.total))
    entrants = [SDK, VIEWS, ENGINE, BARE, Entrant(WEBDATASET, "bench.peers:WebDataset")]

    def order(entrant: Entrant, number: int) -> Order:
        """Return the order for a turn. The first turn compares contents, if the contestant returns any."""
        compare = number == 0 and entrant not in (ENGINE, BARE)
        return Order("everything", (compare,), expected if compare else b"")

    results = contest(site.place, site.front, entrants, rounds, order)
    report.title(
        f"`scan`, {sites.sizes.total:,} datapoints of {sites.sizes.size >> 10} KiB: {site.title}",
        "Engine and pycurl read the archives in ranges of 8 MiB, 4 in flight. The engine keeps the bytes in memory, "
        "pycurl discards them, and webdataset reads the archives through `pipe:curl`. Contents are compared in a turn "
        "that is not timed.",
    )
    report.rates(results, sites.sizes.size)
    return results
