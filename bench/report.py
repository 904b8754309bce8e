"""Tables of what was measured: markdown, with goals, so that RESULTS.md can hold it as it is."""

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from bench.turns import Result

_SECTION = "## Reading"
_HEAD = (
    "| | datapoints/s | SDK / it | requests each | bytes fetched per byte used | client CPU, us each | peak RSS, MB |"
)


@dataclass(frozen=True)
class Goal:
    """What should be reached, by a number of each round."""

    text: str
    measured: Sequence[float]
    at_least: float | None = None
    at_most: float | None = None

    def line(self) -> str:
        found = statistics.median(self.measured)
        missed = (self.at_least is not None and found < self.at_least) or (
            self.at_most is not None and found > self.at_most
        )
        return f"| {self.text} | {spread(self.measured)} | {'**missed**' if missed else 'met'} |"


class Report:
    """Prints as it goes along, and keeps it."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lines: list[str] = []

    def say(self, *lines: str) -> None:
        """Lines of text or of a table."""
        self._lines += lines
        print(*lines, sep="\n", file=self._out, flush=True)

    def title(self, text: str, *about: str) -> None:
        """A heading, and what is to be known below it."""
        self.say("", f"### {text}", "", *about, *([""] if about else []))

    def rates(self, results: Mapping[str, Result], size: int) -> None:
        """A row for each contestant, the SDK first; contents have `size` bytes."""
        self.say(_HEAD, "|---|" + "---|" * 6, *(_row(name, results, size) for name in results))

    def goals(self, goals: Iterable[Goal]) -> None:
        """Goals, and whether the median meets them."""
        self.say(
            *([""] if self._lines[-1:] != [""] else []),
            "| goal | measured | |",
            "|---|---|---|",
            *(goal.line() for goal in goals),
        )

    def write(self, path: Path) -> None:
        """Puts all of it into that file, in place of the section of the run before."""
        old = path.read_text() if path.exists() else "# Measurements\n"
        section = "\n".join([_SECTION, "", *self._lines]).strip() + "\n"
        before, found, after = old.partition(f"{_SECTION}\n")
        rest = re.search(r"^## ", after, re.MULTILINE)
        end = f"\n{after[rest.start() :]}" if found and rest else ""
        path.write_text(f"{before.rstrip()}\n\n{section}{end}")


def spread(values: Sequence[float]) -> str:
    """Median, least and greatest."""
    median, least, greatest = (short(each) for each in (statistics.median(values), min(values), max(values)))
    return median if least == greatest else f"{median} ({least}-{greatest})"


def short(value: float) -> str:
    """Three digits that count."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def rates(result: Result) -> list[float]:
    """Datapoints per second of each round."""
    return [turn.count / turn.seconds for turn in result.turns]


def ratios(results: Mapping[str, Result], name: str, other: str) -> list[float]:
    """How often faster one was than the other, round by round."""
    return [ours / theirs for ours, theirs in zip(rates(results[name]), rates(results[other]), strict=True)]


def quantiles(result: Result, part: float) -> list[float]:
    """Of the latencies in each round, in seconds."""
    return [sorted(turn.latencies)[int(len(turn.latencies) * part)] for turn in result.turns]


def _row(name: str, results: Mapping[str, Result], size: int) -> str:
    ours = next(iter(results))
    result = results[name]
    cells = [spread(rates(result)), "" if name == ours else spread(ratios(results, ours, name))]
    if result.asked:
        pairs = list(zip(result.asked, result.turns, strict=True))
        cells.append(short(statistics.median(asked.requests / turn.count for asked, turn in pairs)))
        cells.append(short(statistics.median(asked.size / (turn.count * size) for asked, turn in pairs)))
    else:
        cells += ["", ""]
    cells.append(short(statistics.median(turn.cpu / turn.count * 1e6 for turn in result.turns)))
    cells.append(short(max(turn.peak for turn in result.turns)))
    return f"| {name} | {' | '.join(cells)} |"
