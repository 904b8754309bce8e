"""Results as Markdown tables, with goals, in the form in which RESULTS.md contains them."""

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
    """A goal, and the value measured in each round."""

    text: str
    measured: Sequence[float]
    at_least: float | None = None
    at_most: float | None = None

    def line(self) -> str:
        """Return the row of the table."""
        median = statistics.median(self.measured)
        missed = (self.at_least is not None and median < self.at_least) or (
            self.at_most is not None and median > self.at_most
        )
        return f"| {self.text} | {spread(self.measured)} | {'**missed**' if missed else 'met'} |"


class Report:
    """Prints lines immediately, and keeps them for RESULTS.md."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lines: list[str] = []

    def say(self, *lines: str) -> None:
        """Add lines of text or of a table."""
        self._lines += lines
        print(*lines, sep="\n", file=self._out, flush=True)

    def title(self, text: str, *notes: str) -> None:
        """Add a heading, with explanations below it."""
        self.say("", f"### {text}", "", *notes, *([""] if notes else []))

    def rates(self, results: Mapping[str, Result], size: int) -> None:
        """Add a table with a row for each contestant, the SDK first. Contents have `size` bytes."""
        self.say(_HEAD, "|---|" + "---|" * 6, *(_row(name, results, size) for name in results))

    def goals(self, goals: Iterable[Goal]) -> None:
        """Add a table of goals that shows whether the median meets them."""
        self.say(
            *([""] if self._lines[-1:] != [""] else []),
            "| goal | measured | |",
            "|---|---|---|",
            *(goal.line() for goal in goals),
        )

    def write(self, path: Path) -> None:
        """Write all lines to the file, in place of the section of the previous run."""
        old = path.read_text() if path.exists() else "# Measurements\n"
        section = "\n".join([_SECTION, "", *self._lines]).strip() + "\n"
        before, section_head, after = old.partition(f"{_SECTION}\n")
        rest = re.search(r"^## ", after, re.MULTILINE)
        end = f"\n{after[rest.start() :]}" if section_head and rest else ""
        path.write_text(f"{before.rstrip()}\n\n{section}{end}")


def spread(values: Sequence[float]) -> str:
    """Return median, lowest and highest value."""
    median, lowest, highest = (short(each) for each in (statistics.median(values), min(values), max(values)))
    return median if lowest == highest else f"{median} ({lowest}-{highest})"


def short(value: float) -> str:
    """Return the number with three significant digits."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def rates(result: Result) -> list[float]:
    """Return the datapoints per second of each round."""
    return [turn.count / turn.seconds for turn in result.turns]


def ratios(results: Mapping[str, Result], name: str, other: str) -> list[float]:
    """Return how many times as fast `name` was as `other` in each round."""
    return [ours / theirs for ours, theirs in zip(rates(results[name]), rates(results[other]), strict=True)]


def quantiles(result: Result, part: float) -> list[float]:
    """Return a quantile of the latencies of each round, in seconds."""
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
