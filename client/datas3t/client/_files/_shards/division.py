"""Division of a shard into samples, and of these into parts that are committed together."""

import hashlib
import shutil
from typing import Protocol

from datas3t.client._files._shards.journal import Part, Progress
from datas3t.client._files._shards.members import LeftOut, Reader
from datas3t.client._files._shards.spools import Piece
from datas3t.client._files._shards.streams import BadShard, Opened, Shard

_CHECK_EVERY = 256  # entries
_CHANGED = "it was changed since its import began; give what is new in it another name to import it as well"


class Owner(Protocol):
    """The import that a division belongs to."""

    def note(self, text: str, count: int = 1) -> None:
        """Remember what is worth knowing."""
        ...

    def read(self, size: int) -> None:
        """Count what was read of a shard."""
        ...

    def is_wanted(self, field: str) -> bool:
        """Return whether a field is imported."""
        ...

    def new_piece(self) -> Piece:
        """Return a piece without samples."""
        ...

    def is_full(self, piece: Piece) -> bool:
        """Return whether the next sample belongs to another piece."""
        ...

    def hand_over(self, shard: Shard, piece: Piece, start: int, digest: str, part: Part | None) -> None:
        """Give a piece its keys, and have it uploaded."""
        ...

    def end(self, shard: Shard, samples: int) -> None:
        """Note that a shard was read to its end."""
        ...


class Division:
    """One shard that is divided into parts. Those that an earlier run has noted are made again as they were.

    Args:
        owner: What takes the parts.
        shard: The shard.
        done: What was done of it.
        source: Its bytes.
    """

    def __init__(self, owner: Owner, shard: Shard, done: Progress, source: Opened) -> None:
        self._owner = owner
        self._shard = shard
        self._planned = list(done.parts)
        self._source = source
        self._samples = 0  # that have ended
        self._piece: Piece | None = None
        self._start = 0  # of the piece
        self._digest = hashlib.sha256()  # of the files of the part
        self._told = 0  # bytes of the shard that were counted

    def run(self) -> None:
        """Read the shard to its end."""
        try:
            self._run()
        except BaseException:
            if self._piece is not None:
                for spool in self._piece.spools:
                    spool.close()
                shutil.rmtree(self._piece.folder, ignore_errors=True)
            raise

    def _run(self) -> None:
        reader = Reader(self._source.stream)
        key: str | None = None
        has: set[str] = set()
        for number, file in enumerate(reader):
            if number % _CHECK_EVERY == 0:
                self._count()
            if isinstance(file, LeftOut):
                self._owner.note(f"{self._shard.name}: {file.why}")
                continue
            # A file begins another sample if its key is another one, or if the sample has such a file already.
            if key is not None and (file.key != key or file.field in has):
                if file.key == key:
                    text = f"{self._shard.name}: {file.name!r} is there twice in a row; the second begins a new sample"
                    self._owner.note(text, 0)
                self._end_sample(key)
                has.clear()
            if not has:
                self._begin_sample()
            key = file.key
            self._digest.update(f"{file.size} {file.name}\0".encode(errors="surrogateescape"))
            has.add(file.field)
            if self._piece is not None and self._owner.is_wanted(file.field):
                self._piece.add(file, map(self._checked, reader.content(file)))
        if key is not None:
            self._end_sample(key)
        if self._planned:
            raise BadShard(_CHANGED)
        if self._piece is not None:
            self._hand_over(None)
        self._count()
        self._owner.end(self._shard, self._samples)

    @property
    def _part(self) -> Part | None:
        """The part that the current sample belongs to, if an earlier run has noted it."""
        return self._planned[0] if self._planned else None

    def _begin_sample(self) -> None:
        part = self._part
        if self._piece is None and (part is None or part.first is None):
            self._piece, self._start = self._owner.new_piece(), self._samples

    def _end_sample(self, key: str) -> None:
        self._samples += 1
        part = self._part
        if self._piece is not None:
            self._piece.end_sample(key)
        if part is not None and self._samples == part.start + part.count:
            if self._digest.hexdigest() != part.digest:
                raise BadShard(_CHANGED)
            if self._piece is not None:
                self._hand_over(part)
            self._planned.pop(0)
            self._digest = hashlib.sha256()
        elif part is None and self._piece is not None and self._owner.is_full(self._piece):
            self._hand_over(None)

    def _hand_over(self, part: Part | None) -> None:
        assert self._piece is not None
        self._owner.hand_over(self._shard, self._piece, self._start, self._digest.hexdigest(), part)
        self._piece = None
        self._digest = hashlib.sha256()

    def _checked(self, piece: bytes) -> bytes:
        self._count()
        return piece

    def _count(self) -> None:
        position = self._source.raw.tell()
        self._owner.read(position - self._told)
        self._told = position
