"""Check thousands of headers at once: numpy handles them as rows of 64-bit words.

The checks recognise plain headers, which is what tools write for a small file: USTAR, V7 or GNU, with a name and a size
that fit, and possibly a PAX header whose records are ignored here. Every other header is left to the reference reader
(`header`), valid or not.
"""

import numpy as np
from numpy.typing import NDArray

from datas3t.archive import ArchiveError, header
from datas3t.archive.index import BLOCK

Words = NDArray[np.uint64]
"""Little-endian on every machine: byte k of a block is in word k // 8, from bit 8 * (k % 8)."""
Flags = NDArray[np.bool_]
"""One value for each row."""

WORD = np.dtype("<u8")
WORDS = BLOCK // WORD.itemsize

_MAX_TEMPLATES = 64  # PAX headers are compared with each, so many would be slower than the reference reader
_TILE = 1_024  # rows whose sums are computed at once: the intermediate results stay in the CPU's cache


def _each(byte: int) -> np.uint64:
    """Return a word with this value in each of its eight bytes."""
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
    """Return the first `count` blocks of a buffer, a row each, without copying them."""
    return np.frombuffer(buffer, WORD, count * WORDS).reshape(-1, WORDS)


def sizes(rows: Words) -> Words:
    """Return the sizes in bytes 124-134, eleven octal digits. Without such digits the number is meaningless."""
    return _octal(rows[:, 15] & _HIGH_HALF) << _u(21) | _octal(rows[:, 16] << _8)


def kinds(rows: Words) -> Words:
    """Return the type of each header."""
    return rows[:, 19] >> _32 & _u(0xFF)


def are_named(rows: Words, key: int) -> Flags:
    """Return which headers have the name of their datapoint; the first row's has this key, and keys are consecutive."""
    first, second, third = rows[:, 0], rows[:, 1], rows[:, 2]
    numeric = _all_digits(first) & _all_digits(second) & _all_digits(third & _LOW_HALF | _ZERO_DIGITS << _32)
    upper = _decimal(first)
    # 9,223,371 followed by twelve digits is below 2^63, so nothing overflows.
    keys = upper * _u(10**12) + _decimal(second) * _u(10**4) + _decimal(third << _32)
    expected = _u(key) + np.arange(len(rows), dtype=np.uint64)
    return np.asarray(numeric & (upper <= 9_223_371) & (keys == expected) & _with_extension(rows))


def all_have(rows: Words, extension: str) -> bool:
    """Return whether all names, which have 20 digits and a dot, end with this extension."""
    expected = extension.encode("utf-8", "surrogateescape") + b"\0"
    names = rows.view(np.uint8)[:, 21 : min(21 + len(expected), 100)]
    text = np.frombuffer(expected, np.uint8)[: names.shape[1]]
    return len(expected) <= 80 and bool((names == text).all())


class Checker:
    """Checks headers, and learns what the PAX headers look like that can be ignored.

    Each distinct form of such a header is kept as a template, in which the digits of values may differ. The memory for
    intermediate results is reused.
    """

    def __init__(self) -> None:
        """Make a checker without templates."""
        self._sums_of = np.empty((2, _TILE, WORDS), np.uint64)
        self._templates: list[
            tuple[int, Words, Words, Words]
        ] = []  # length, text, masks of the text and of the digits; see _learn

    def are_regular(self, rows: Words) -> Flags:
        """Return which rows are plain headers of regular files. Their names are not checked."""
        kind = kinds(rows)
        prefixed = (rows[:, 32] & _USTAR_MASK == _USTAR) & (rows[:, 43] & _u(0xFF00) != 0)
        return np.asarray(((kind == ord("0")) | (kind == 0)) & ~prefixed & self._have_valid_fields(rows))

    def are_harmless(self, rows: Words, payloads: Words) -> Flags:
        """Return which rows are PAX headers, with records in one block each, that do not affect their entry."""
        lengths = sizes(rows)
        valid = (kinds(rows) == ord("x")) & (lengths > 0) & (lengths <= BLOCK) & self._have_valid_fields(rows)
        return np.asarray(valid & self._are_ignored(payloads, np.where(valid, lengths, 0)))

    def _are_ignored(self, payloads: Words, lengths: Words) -> Flags:
        """Return which payloads fit a template, after learning new ones."""
        fits = np.zeros(len(payloads), dtype=np.bool_)
        for template in self._templates:
            if fits.all():
                return fits
            _mark(fits, payloads, lengths, template)

        # The first payload without a template is read by the reference reader and becomes a template if it is ignored.
        while len(self._templates) < _MAX_TEMPLATES and not fits.all():
            row = int(np.argmin(fits))
            length = int(lengths[row])
            learned = _learn(payloads[row].tobytes()[:length])
            if learned is None:
                break
            self._templates.append((length, *learned))
            _mark(fits, payloads, lengths, self._templates[-1])
        return fits

    def _have_valid_fields(self, rows: Words) -> Flags:
        """Return which rows have a size and a checksum in plain octal digits, and a checksum that is correct."""
        size = (rows[:, 15] & _u(0xF8F8F8F800000000) == _u(0x3030303000000000)) & (
            rows[:, 16] & _u(0xDFF8F8F8F8F8F8F8) == _u(0x0030303030303030)  # followed by a NUL or a blank
        )
        field = rows[:, 18] >> _32 | rows[:, 19] << _32  # six digits, a NUL, a blank
        octal = field & _u(0xFFFFF8F8F8F8F8F8) == _u(0x2000303030303030)
        total = self._sums(rows) - _sum_of_bytes(field) + _u(8 * ord(" "))
        return np.asarray(size & octal & (_octal(field << _16) == total))

    def _sums(self, rows: Words) -> Words:
        """Return the sum of each row's bytes."""
        total = np.empty(len(rows), np.uint64)
        for start in range(0, len(rows), _TILE):
            tile = rows[start : start + _TILE]
            even, odd = self._sums_of[:, : len(tile)]
            np.copyto(odd, tile)
            np.bitwise_and(odd, _EVEN, out=even)
            np.right_shift(odd, _8, out=odd)
            np.bitwise_and(odd, _EVEN, out=odd)
            np.add(even, odd, out=even)  # four sums of two bytes in each word
            np.einsum("ij->i", even, out=total[start : start + _TILE])  # of 128 bytes each, which fits in 16 bits
        total = (total & _QUARTERS) + (total >> _16 & _QUARTERS)
        return (total & _LOW_HALF) + (total >> _32)


def _mark(marks: Flags, payloads: Words, lengths: Words, template: tuple[int, Words, Words, Words]) -> None:
    """Set the marks of the payloads that fit the template."""
    length, text, literal, digits = template
    same = lengths == length
    whole = bool(same.all())
    # The template has 0 in place of each digit, so what differs there is the value of the digit.
    changed = (payloads[:, : len(text)] if whole else payloads[same, : len(text)]) ^ text
    fits = ((changed & literal | _not_digits(changed) & digits) == 0).all(axis=1)
    if whole:
        marks |= fits
    else:
        marks[same] |= fits


def _sum_of_bytes(words: Words) -> Words:
    """Return the sum of the eight bytes of each word."""
    pairs = (words & _EVEN) + (words >> _8 & _EVEN)
    return pairs * _u(0x0001000100010001) >> _48


def _octal(words: Words) -> Words:
    """Return the number in eight octal digits, the first in the lowest byte. A byte of 0 counts as the digit 0."""
    value = words & _SEVENS
    value = (value << _u(3)) + (value >> _8) & _EVEN
    value = (value << _u(6)) + (value >> _16) & _QUARTERS
    return (value << _u(12)) + (value >> _32) & _LOW_HALF


def _decimal(words: Words) -> Words:
    """Return the number in eight decimal digits, in the same order."""
    value = words & _NIBBLES
    value = value * _u(10) + (value >> _8) & _EVEN
    value = value * _u(100) + (value >> _16) & _QUARTERS
    return value * _u(10_000) + (value >> _32) & _LOW_HALF


def _all_digits(words: Words) -> Flags:
    """Return which words consist of eight decimal digits."""
    return np.asarray(_not_digits(words ^ _ZERO_DIGITS) == 0)


def _not_digits(values: Words) -> Words:
    """Return words with bits set in the bytes whose value is above 9."""
    return (values | (values & _NIBBLES) + _SIXES) & _HIGH_NIBBLES


def _with_extension(rows: Words) -> Flags:
    """Return which names continue after the 20 digits with a dot and an extension without a slash."""
    third = rows[:, 2]
    dotted = (third >> _32 & _u(0xFF) == ord(".")) & (third >> _u(40) & _u(0xFF) != 0)

    # Extensions are mostly the same: the first one is checked, and only those that differ from it.
    tails = rows[:, 3:13]
    slashed = np.full(len(rows), _tails_with_slash(tails[:1])[0])
    others = np.flatnonzero(
        (tails[:, :-1] != tails[0, :-1]).any(axis=1) | ((tails[:, -1] ^ tails[0, -1]) & _LOW_HALF != 0)
    )
    slashed[others] = _tails_with_slash(tails[others])
    return np.asarray(dotted & ~slashed & ~_words_with_slash(third >> _u(40)))


def _tails_with_slash(tails: Words) -> Flags:
    """Return which names have a slash in bytes 24-99. The upper half of the last word is not part of the name."""
    return _words_with_slash(tails[:, :-1]).any(axis=1) | _words_with_slash(tails[:, -1] & _LOW_HALF)


def _words_with_slash(words: Words) -> Flags:
    """Return which words contain the byte of a slash."""
    changed = words ^ _SLASHES
    return np.asarray((changed - _ONES) & ~changed & _TOPS != 0)


def _learn(payload: bytes) -> tuple[Words, Words, Words] | None:
    """Return the template of a payload, or None if it is malformed or affects its entry.

    The template is the payload's text with 0 in place of each digit of a value, the mask of the bytes that must be
    equal, and the mask of the digits. Other digits in these places cannot make the payload affect its entry.
    """
    try:
        if header.pax_records(payload, 0):
            return None
    except ArchiveError:
        return None

    # Replace the digits in the value of each record, `<length> <key>=<value>`.
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
    """Return bytes as words, filled up with zeros."""
    return np.frombuffer(bytes(raw) + bytes(-len(raw) % WORD.itemsize), dtype=WORD)
