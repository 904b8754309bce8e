"""Single bits that are wrong: in an object where it is stored, or on its way to a reader."""

import random
from dataclasses import dataclass

from datas3t.archive import ArchiveError, checksums, tar


class Flipped:
    """An object in which a bit is wrong where it is served, for all readers or only for the first ones of the byte."""

    def __init__(self, raw: bytes, bit: int, times: int = 1 << 30) -> None:
        self._raw = raw
        self._byte, self._bit = divmod(bit, 8)
        self.left = times

    def __len__(self) -> int:
        return len(self._raw)

    def __getitem__(self, place: slice) -> bytes:
        start, stop, _ = place.indices(len(self._raw))
        piece = bytearray(self._raw[place])
        if start <= self._byte < stop and self.left:
            self.left -= 1
            piece[self._byte - start] ^= 1 << self._bit
        return bytes(piece)


@dataclass(frozen=True)
class Flip:
    """An object with a wrong bit.

    Attributes:
        raw: The object.
        path: Its path, whose ending tells what it is.
        before: The object without the wrong bit.
    """

    raw: bytes
    path: str
    before: bytes

    def matters(self, has_checksums: bool) -> bool:
        """Return whether verification must notice the bit.

        In an archive these are all but those of contents that have no checksum, and of PAX records that mean nothing.
        """
        if not self.path.endswith(".tar"):
            return True
        if self._is_ignored_record():
            return False
        return has_checksums or self._is_no_content()

    def _is_no_content(self) -> bool:
        old = _scanned(self.before)
        new = _scanned(self.raw)
        if new is None or old is None or (new.index, new.count) != (old.index, old.count):
            return True
        return checksums.crc(self.raw) != checksums.crc(self.before) and new.checksums == old.checksums

    def _is_ignored_record(self) -> bool:
        """Whether only bytes of extended headers differ, which are no headers themselves, and nothing that they set."""
        old, new = _scanned(self.before), _scanned(self.raw)
        if old is None or new is None or (new.index, new.checksums, new.extension) != (old.index, old.checksums, "bin"):
            return False
        byte = next(n for n, (a, b) in enumerate(zip(self.before, self.raw, strict=True)) if a != b)
        block = byte // 512
        return (
            block > 0
            and self.before[512 * (block - 1) + 156] == ord("x")
            and self.before[512 * block + 257 :][:5] != b"ustar"
        )


def flipped(source: random.Random, raw: bytes, path: str) -> Flip:
    """Return an object with one wrong bit."""
    bit = source.randrange(8 * len(raw))
    wrong = bytearray(raw)
    wrong[bit // 8] ^= 1 << bit % 8
    return Flip(bytes(wrong), path, raw)


def _scanned(raw: bytes) -> tar.Contents | None:
    try:
        return tar.scan(lambda start, stop: raw[start:stop], len(raw), checksums=True)
    except ArchiveError:
        return None
