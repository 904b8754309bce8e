"""Workloads that read random datapoints, in batches and one by one."""

from collections.abc import Callable, Sequence
from time import perf_counter

from bench import front
from bench.bare import Bare
from bench.report import Goal, Report, quantiles, ratios, short, spread
from bench.sites import Site, Sites
from bench.turns import Entrant, Order, Result, contest

SDK = Entrant("SDK", "bench.readers:Sdk")
ENGINE = Entrant("engine alone", "bench.readers:EngineAlone")
BARE = Entrant("bare pycurl", "bench.readers:BarePycurl")
BOTO3 = "boto3, one object per file"
OBSTORE = "obstore, one object per file"


def many(report: Report, sites: Sites, rounds: int) -> None:
    """Measure `get_many` on nginx, and on SeaweedFS for comparison."""
    sizes = sites.sizes
    if sites.fast:
        results = _batches(sites, sites.fast, rounds, sizes.chosen)
        _print(report, sites, sites.fast, results, sizes.chosen)
        report.goals(
            [
                Goal("at least 0.9 of bare pycurl with the same ranges", ratios(results, "SDK", "bare pycurl"), 0.9),
                Goal("at least 20 times boto3's threads", ratios(results, "SDK", BOTO3), 20),
                Goal("at least 1.5 times obstore on one object per file", ratios(results, "SDK", OBSTORE), 1.5),
            ]
        )
    few = max(1, rounds // 2)
    _print(report, sites, sites.seaweed, _batches(sites, sites.seaweed, few, sizes.seaweed), sizes.seaweed)


def far(report: Report, sites: Sites, rounds: int) -> None:
    """Measure `get_many` on nginx behind a relay that adds latency."""
    if sites.far:
        results = _batches(sites, sites.far, rounds, sites.sizes.chosen)
        _print(report, sites, sites.far, results, sites.sizes.chosen)
        report.say("", _relay_alone(sites))
        report.goals([Goal("at least 10 times boto3's 16 threads", ratios(results, "SDK", BOTO3), 10)])


def one_by_one(report: Report, sites: Sites, rounds: int) -> None:
    """Measure `get` in a loop."""
    site = sites.fast or sites.seaweed
    keys = sites.keys[: sites.sizes.singly]
    entrants = [SDK, ENGINE, BARE, *_peers(None), _presign_each(None)]
    expected = sites.digest(keys)
    results = contest(site.place, site.front, entrants, rounds, lambda *_: Order("single", (keys,), expected))
    report.title(f"`get`, {len(keys):,} datapoints one by one, warm handle: {site.title}")
    report.rates(results, site.place.size)
    report.say("", "| us, median of the rounds | p50 | p99 |", "|---|---|---|")
    for name, result in results.items():
        p50, p99 = ([1e6 * each for each in quantiles(result, part)] for part in (0.5, 0.99))
        report.say(f"| {name} | {spread(p50)} | {spread(p99)} |")
    report.goals(
        Goal(
            f"within 1.15 of the engine's bare ranged GET, {name}",
            _times(results, "SDK", "engine alone", part),
            None,
            1.15,
        )
        for name, part in (("p50", 0.5), ("p99", 0.99))
    )


def _peers(keys: int | None) -> list[Entrant]:
    return [
        Entrant(BOTO3, "bench.peers:Boto3Threads", keys),
        Entrant(OBSTORE, "bench.peers:ObstoreSingles"),
    ]


def _presign_each(keys: int | None) -> Entrant:
    return Entrant("a presign call per read", "bench.readers:PresignEach", keys)


def _batches(sites: Sites, site: Site, rounds: int, count: int) -> dict[str, Result]:
    sizes = sites.sizes
    entrants = [SDK, ENGINE, BARE, *_peers(min(sizes.slow, count))]
    if site.front:
        entrants += [
            _presign_each(min(sizes.slow, count)),
            Entrant("obstore, known ranges", "bench.peers:ObstoreRanges"),
        ]
    return contest(site.place, site.front, entrants, rounds, _orders(sites, sites.keys[:count]))


def _orders(sites: Sites, keys: Sequence[int]) -> Callable[[Entrant, int], Order]:
    """Return a function that returns the order for a contestant; slow contestants read only the first keys."""
    expected = {count: sites.digest(keys[:count]) for count in {len(keys), min(len(keys), sites.sizes.slow)}}

    def order(entrant: Entrant, _: int) -> Order:
        chosen = keys[: entrant.keys]
        return Order("random", (chosen, sites.sizes.batch), expected[len(chosen)])

    return order


def _relay_alone(sites: Sites) -> str:
    """Return a sentence about the throughput of the relay without delay, which limits what can be measured."""
    assert sites.fast
    place, bare = sites.fast.place, Bare(256)
    with front.delayed(place.access.endpoint, 0) as endpoint:

        def through_relay(url: str) -> str:
            return endpoint + url.removeprefix(place.access.endpoint)

        small = [(through_relay(archive.url), content) for archive, content in map(place.content, sites.keys)]
        large = [(through_relay(url), part) for url, part in place.sequence(8 << 20)]
        bare.fetch(small[:256])
        began = perf_counter()
        bare.fetch(small)
        between = perf_counter()
        size = Bare(4).read(large)
    return (
        f"Without the delay the relay handles {short(len(small) / (between - began))} such requests/s, 256 in flight; "
        f"{short(size / 1e6 / (perf_counter() - between))} MB/s in ranges of 8 MiB, 4 in flight."
    )


def _print(report: Report, sites: Sites, site: Site, results: dict[str, Result], count: int) -> None:
    sizes = sites.sizes
    report.title(
        f"`get_many`, {count:,} random datapoints of {sizes.size >> 10} KiB out of {sizes.total:,}: {site.title}",
        f"{min(sizes.batch, count):,} at a time, in {sizes.total // sizes.each} archives. Engine, pycurl and obstore "
        f"have {site.place.in_flight} in flight. boto3 and the presign calls run in 16 threads, and read only the "
        f"first {min(sizes.slow, count):,} keys.",
    )
    report.rates(results, sizes.size)


def _times(results: dict[str, Result], name: str, other: str, part: float) -> list[float]:
    pairs = zip(quantiles(results[name], part), quantiles(results[other], part), strict=True)
    return [ours / theirs for ours, theirs in pairs]
