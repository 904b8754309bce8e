"""Workloads of new processes: the time until the first read, requests of several at once, and memory."""

import hashlib
import re
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter

from bench.contestant import Turn
from bench.front import Front
from bench.places import Place
from bench.report import Goal, Report, spread
from bench.sites import Sites
from bench.turns import Contestant
from bench.wide import Wide

_PROCESSES = 8


def wide(report: Report, sites: Sites, rounds: int) -> None:
    """Measure the time from creating a client to the first content, for a datas3t of many dataranges."""
    for site in (sites.fast, sites.far):
        if site and site.front:
            report.title(
                f"Open a datas3t of {sites.wide.datapoints:,} datapoints in {sites.wide.dataranges:,} dataranges, "
                f"first `get`: {site.title}",
                "A new process each time, with an empty cache. Measured from creating the client to the content, "
                "without imports.",
            )
            _opened(report, sites.wide, site.place, site.front, rounds)


def _opened(report: Report, wide: Wide, place: Place, front: Front, rounds: int) -> None:
    turns, calls, requests = [], [], []
    for key in wide.keys[:rounds]:
        with _newcomers(1, place.server_url, wide.name(place.name)) as (client,):
            front.reset_counts()
            before = _calls(place.server_url)
            turns.append(_checked(client.turn("open", key), wide.content(key)))
            calls.append(_calls(place.server_url) - before)
            requests.append(float(front.asked().requests))
    report.goals(
        [
            Goal("calls of the server: at most 2", calls, at_most=2),
            Goal("requests to S3: at most 2", requests, at_most=2),
            Goal("seconds: under 0.2", [turn.seconds for turn in turns], at_most=0.2),
        ]
    )
    report.say("", f"Client CPU: {spread([turn.cpu for turn in turns])} s.")


def together(report: Report, sites: Sites, rounds: int) -> None:
    """Compare processes that share a cache on disk with a single one. All read all keys, each in another order."""
    if not (sites.fast and sites.fast.front):
        return
    place, front, archives = sites.fast.place, sites.fast.front, len(sites.fast.place.archives)
    rates: dict[int, list[float]] = {1: [], _PROCESSES: []}
    indices: dict[int, list[float]] = {1: [], _PROCESSES: []}
    for _ in range(rounds):
        for count, measured in rates.items():
            front.reset_counts()
            measured.append(count * len(sites.keys) / _at_once(sites, place, count))
            indices[count].append(front.asked().indices / archives)
    report.title(
        f"{_PROCESSES} processes open a datas3t at once and read {len(sites.keys):,} datapoints each",
        "New processes each time, which share one empty cache on disk and start with different keys. Measured from the "
        "first start to the last end, without imports.",
    )
    report.say("| processes | datapoints/s | requests for indices, per index |", "|---|---|---|")
    report.say(*(f"| {count} | {spread(rates[count])} | {spread(indices[count])} |" for count in rates))
    ratios = [many / one for many, one in zip(rates[_PROCESSES], rates[1], strict=True)]
    report.goals(
        [
            Goal("together at least as fast as one", ratios, at_least=1),
            Goal("one fetch per index in total", indices[_PROCESSES], at_most=1),
        ]
    )


def _at_once(sites: Sites, place: Place, count: int) -> float:
    """Return how many seconds `count` processes take to read all keys."""
    cuts = [len(sites.keys) * number // count for number in range(count)]
    orders = [sites.keys[at:] + sites.keys[:at] for at in cuts]
    expected = [sites.digest(keys) for keys in orders]
    with _newcomers(count, place.server_url, place.name) as clients:
        began = perf_counter()
        for client, keys in zip(clients, orders, strict=True):
            client.begin("read", keys, sites.sizes.batch)
        turns = [client.end() for client in clients]
    assert [turn.digest for turn in turns] == expected, "contents differ"
    return max(turn.ended for turn in turns) - began


def memory(report: Report, sites: Sites, rounds: int) -> None:
    """Measure by how much the memory of a new process grows."""
    if not sites.fast:
        return
    place, wide = sites.fast.place, sites.wide
    report.title(
        f"Memory of a handle on {wide.datapoints:,} datapoints in {wide.dataranges:,} dataranges",
        "RSS of a new process after `len` and a `get`, and its peak, without the interpreter and its imports.",
    )
    report.say("| MB | held | peak |", "|---|---|---|")
    turns = [_held(place.server_url, wide.name(place.name), key) for key in wide.keys[:rounds]]
    few = [_held(place.server_url, place.name, key) for key in sites.keys[:rounds]]
    for title, each in (("this datas3t", turns), (f"one of {len(place.archives)} dataranges", few)):
        report.say(f"| {title} | {spread([one.held for one in each])} | {spread([one.grown for one in each])} |")
    report.goals([Goal("held: under 50 MB", [turn.held for turn in turns], at_most=50)])


def _held(server_url: str, name: str, key: int) -> Turn:
    with _newcomers(1, server_url, name) as (client,):
        return client.turn("hold", key)


@contextmanager
def _newcomers(count: int, server_url: str, name: str) -> Iterator[Sequence[Contestant]]:
    """Start `count` processes that share an initially empty cache."""
    with tempfile.TemporaryDirectory() as cache, ExitStack() as stack:
        processes = []
        for _ in range(count):
            processes.append(Contestant("bench.newcomers:Newcomer", server_url, name, cache=Path(cache)))
            stack.callback(processes[-1].close)
        for each in processes:
            each.wait_ready()
        yield processes


def _checked(turn: Turn, content: bytes) -> Turn:
    """Return the turn if it read this content; fail otherwise."""
    assert turn.digest == hashlib.sha256(content).digest(), "contents differ"
    return turn


def _calls(server_url: str) -> float:
    """Return how many calls the server has counted."""
    with urllib.request.urlopen(f"{server_url}/metrics") as response:
        page = response.read().decode()
    return sum(float(value) for value in re.findall(r"^datas3t_calls_total\{[^}]*\} (\S+)$", page, re.MULTILINE))
