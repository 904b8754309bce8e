"""Headers by the thousand: which of them are plain, all checked at once by numpy as rows of 64-bit words.

Plain is what tools write for a small file: USTAR, V7 or GNU, a name and a size that fit, and perhaps a PAX header whose
records mean nothing here. Of what is not plain nothing is said: that is the scalar reader's (`header`).
"""

import numpy as np
from numpy.typing import NDArray

from datas3t.archive import ArchiveError, header
from datas3t.archive.index import BLOCK

Words = NDArray[np.uint64]
"""Little-endian, whatever the machine is: byte k of a block is in word k // 8, bits 8 * (k % 8) and up."""
Flags = NDArray[np.bool_]

WORD = np.dtype("<u8")
WORDS = BLOCK // WORD.itemsize

_TEMPLATES = 64
_TILE = 1_024  # rows whose sums are made at once: what is in between stays in the cache


def _each(byte: int) -> np.uint64:
    return np.uint64(byte * 0x0101010101010101)


def _u(value: int) -> np.uint64:
    return np.uint64(value)


_EVEN, _QUARTERS = _u(0x00FF00FF00FF00FF), _u(0x0000FFFF0000FFFF)
_LOW_HALF, _HIGH_HALF = _u(0xFFFFFFFF), _u(0xFFFFFFFF00000000)
_8, _16, _32, _48 = map(_u, (8, 16, 32, 48))
_ZERO_DIGITS, _SEVENS, _NIBBLES, _SIXES, _HIGH_NIBBLES = map(_each, (0x30, 0x07, 0x0F, 0x06, 0xF0))
_ONES, _TOPS, _SLASHES = map(_each, (0x01, 0x80, ord("/")))
_USTAR = _u(int.from_bytes(b"\0ustar\0\0", "little"))
_USTAR_MASK = _u(0x00FFFFFFFFFFFF00)


def rows(buffer: bytearray, count: int) -> Words:
    """The first blocks of a buffer, a row each; not copied."""
    return np.frombuffer(buffer, WORD, count * WORDS).reshape(-1, WORDS)


def sizes(rows: Words) -> Words:
    """The number in bytes 124-134, eleven octal digits; nonsense where they are none."""
    return _octal(rows[:, 15] & _HIGH_HALF) << _u(21) | _octal(rows[:, 16] << _8)


def kinds(rows: Words) -> Words:
    """The type of each header."""
    return rows[:, 19] >> _32 & _u(0xFF)


def named(rows: Words, key: int) -> Flags:
    """Which headers have the names of consecutive datapoints from `key` on."""
    first, second, third = rows[:, 0], rows[:, 1], rows[:, 2]
    numeric = _all_digits(first) & _all_digits(second) & _all_digits(third & _LOW_HALF | _ZERO_DIGITS << _32)
    upper = _decimal(first)
    # 9,223,371 and twelve digits more are below 2^63: nothing wraps
    found = upper * _u(10**12) + _decimal(second) * _u(10**4) + _decimal(third << _32)
    expected = _u(key) + np.arange(len(rows), dtype=np.uint64)
    return np.asarray(numeric & (upper <= 9_223_371) & (found == expected) & _with_extension(rows))


class Headers:
    """Checks headers; keeps the memory that it needs, and what PAX headers without meaning here look like.

    They are kept as templates, in which digits of values may be other digits.
    """

    def __init__(self) -> None:
        self._sums_of = np.empty((2, _TILE, WORDS), np.uint64)
        self._templates: list[tuple[int, Words, Words, Words]] = []  # length, text, masks of the text and of the digits

    def regular(self, rows: Words) -> Flags:
        """Which are plain headers of regular files, but for their names."""
        kind = kinds(rows)
        prefixed = (rows[:, 32] & _USTAR_MASK == _USTAR) & (rows[:, 43] & _u(0xFF00) != 0)
        return np.asarray(((kind == ord("0")) | (kind == 0)) & ~prefixed & self._sound(rows))

    def harmless(self, rows: Words, payloads: Words) -> Flags:
        """Which are plain headers of PAX records, in one block each, that change nothing."""
        lengths = sizes(rows)
        good = (kinds(rows) == ord("x")) & (lengths > 0) & (lengths <= BLOCK) & self._sound(rows)
        return np.asarray(good & self._unread(payloads, np.where(good, lengths, 0)))

    def _unread(self, payloads: Words, lengths: Words) -> Flags:
        good = np.zeros(len(payloads), dtype=np.bool_)
        for template in self._templates:
            if good.all():
                return good
            _mark(good, payloads, lengths, template)
        while len(self._templates) < _TEMPLATES and not good.all():
            row = int(np.argmin(good))
            length = int(lengths[row])
            learned = _learn(payloads[row].tobytes()[:length])
            if learned is None:
                break
            self._templates.append((length, *learned))
            _mark(good, payloads, lengths, self._templates[-1])
        return good

    def _sound(self, rows: Words) -> Flags:
        """Which have a size and a checksum in plain octal digits, and the checksum holds."""
        size = (rows[:, 15] & _u(0xF8F8F8F800000000) == _u(0x3030303000000000)) & (
            rows[:, 16] & _u(0xDFF8F8F8F8F8F8F8) == _u(0x0030303030303030)  # ended by a NUL or a blank
        )
        field = rows[:, 18] >> _32 | rows[:, 19] << _32  # six digits, a NUL, a blank
        octal = field & _u(0xFFFFF8F8F8F8F8F8) == _u(0x2000303030303030)
        total = self._sums(rows) - _sum_of_bytes(field) + _u(8 * ord(" "))
        return np.asarray(size & octal & (_octal(field << _16) == total))

    def _sums(self, rows: Words) -> Words:
        """The sum of each row's bytes."""
        total = np.empty(len(rows), np.uint64)
        for start in range(0, len(rows), _TILE):
            tile = rows[start : start + _TILE]
            even, odd = self._sums_of[:, : len(tile)]
            np.copyto(odd, tile)
            np.bitwise_and(odd, _EVEN, out=even)
            np.right_shift(odd, _8, out=odd)
            np.bitwise_and(odd, _EVEN, out=odd)
            np.add(even, odd, out=even)  # four sums of two bytes in each word
            np.einsum("ij->i", even, out=total[start : start + _TILE])  # of 128: they fit 16 bits
        total = (total & _QUARTERS) + (total >> _16 & _QUARTERS)
        return (total & _LOW_HALF) + (total >> _32)


def _mark(good: Flags, payloads: Words, lengths: Words, template: tuple[int, Words, Words, Words]) -> None:
    """Marks the payloads that fit the template."""
    length, text, literal, digits = template
    same = lengths == length
    whole = bool(same.all())
    # a digit's lower half is its value, whatever digit the template has: see _learn
    changed = (payloads[:, : len(text)] if whole else payloads[same, : len(text)]) ^ text
    fits = ((changed & literal | _no_digits(changed) & digits) == 0).all(axis=1)
    if whole:
        good |= fits
    else:
        good[same] |= fits


def _sum_of_bytes(words: Words) -> Words:
    pairs = (words & _EVEN) + (words >> _8 & _EVEN)
    return pairs * _u(0x0001000100010001) >> _48


def _octal(words: Words) -> Words:
    """The number in eight octal digits, the first in the lowest byte; a byte of 0 counts as the digit 0."""
    value = words & _SEVENS
    value = (value << _u(3)) + (value >> _8) & _EVEN
    value = (value << _u(6)) + (value >> _16) & _QUARTERS
    return (value << _u(12)) + (value >> _32) & _LOW_HALF


def _decimal(words: Words) -> Words:
    """The number in eight decimal digits, as `_octal`."""
    value = words & _NIBBLES
    value = value * _u(10) + (value >> _8) & _EVEN
    value = value * _u(100) + (value >> _16) & _QUARTERS
    return value * _u(10_000) + (value >> _32) & _LOW_HALF


def _all_digits(words: Words) -> Flags:
    return np.asarray(_no_digits(words ^ _ZERO_DIGITS) == 0)


def _no_digits(values: Words) -> Words:
    """Bits in those bytes that are above 9."""
    return (values | (values & _NIBBLES) + _SIXES) & _HIGH_NIBBLES


def _with_extension(rows: Words) -> Flags:
    """Which names go on, behind 20 digits, with a dot and an extension without a slash."""
    third = rows[:, 2]
    dotted = (third >> _32 & _u(0xFF) == ord(".")) & (third >> _u(40) & _u(0xFF) != 0)
    tails = rows[:, 3:13]
    slashed = np.full(len(rows), _slashed(tails[:1])[0])
    others = np.flatnonzero(
        (tails[:, :-1] != tails[0, :-1]).any(axis=1) | ((tails[:, -1] ^ tails[0, -1]) & _LOW_HALF != 0)
    )
    slashed[others] = _slashed(tails[others])
    return np.asarray(dotted & ~slashed & ~_slash(third >> _u(40)))


def _slashed(tails: Words) -> Flags:
    """Which have a slash in bytes 24-99; the last word's upper half is no part of the name."""
    return _slash(tails[:, :-1]).any(axis=1) | _slash(tails[:, -1] & _LOW_HALF)


def _slash(words: Words) -> Flags:
    """Which words have a byte that is a slash."""
    changed = words ^ _SLASHES
    return np.asarray((changed - _ONES) & ~changed & _TOPS != 0)


def _learn(payload: bytes) -> tuple[Words, Words, Words] | None:
    """A payload that the scalar reader finds to be well-formed and without meaning here, as a template.

    Its text has the digits of values as zeros; with other digits in their place it means as little.
    """
    try:
        records = header.pax_records(payload, 0)
    except ArchiveError:
        return None
    if any(header.changes_entry(key) for key in records):
        return None
    text, digits = bytearray(payload), bytearray(len(payload))
    at = 0
    while at < len(payload) and payload[at]:
        stop = at + int(payload[at : payload.index(b" ", at)])
        for place in range(payload.index(b"=", at) + 1, stop - 1):
            if text[place] in b"0123456789":
                text[place], digits[place] = ord("0"), 0xFF
        at = stop
    literal = bytes(byte ^ 0xFF for byte in digits)
    return _words(text), _words(literal), _words(digits)


def _words(raw: bytes | bytearray) -> Words:
    return np.frombuffer(bytes(raw) + bytes(-len(raw) % WORD.itemsize), dtype=WORD)
