"""Fuzzing of damage: a bit that is flipped in any object is noticed, or changes nothing that is read."""

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.client.reading.memory_flips import Flips, nothing_on_disk
from tests.fuzz.loop import Note, Try


@contextmanager
def target() -> Iterator[Try]:
    """Yield the target."""
    with tempfile.TemporaryDirectory() as folder, nothing_on_disk():
        flips = Flips(Path(folder))

        def attempt(source: random.Random, note: Note) -> None:
            flips.attempt(source, note)

        yield attempt
