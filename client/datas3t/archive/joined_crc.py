"""The CRC-32C of contents that were read in pieces, from the CRCs of the pieces.

A CRC is a polynomial over GF(2), the remainder of the content's bits divided by a fixed one. Appending n bytes
multiplies it by x^(8n), so the CRC of two pieces is that of the first one, multiplied so, plus that of the second one.
Bits are in reversed order, as in the CRC itself: the highest bit stands for x^0.
"""

from functools import cache

_POLYNOMIAL = 0x82F63B78  # Castagnoli's
_ONE = 1 << 31
_X = 1 << 30


def joined(first: int, second: int, size: int) -> int:
    """Return the CRC of two pieces, given the CRC of each and the size of the second one in bytes.

    Example:
        >>> joined(crc(b"123"), crc(b"456789"), 6) == crc(b"123456789")
        True
    """
    factor, power, bits = _ONE, 0, 8 * size
    while bits:
        if bits & 1:
            factor = _product(factor, _power(power))
        bits >>= 1
        power += 1
    return _product(factor, first) ^ second


@cache
def _power(exponent: int) -> int:
    """Return the remainder of x^(2^exponent)."""
    if not exponent:
        return _X
    root = _power(exponent - 1)
    return _product(root, root)


def _product(one: int, other: int) -> int:
    """Return the remainder of the product of two remainders."""
    product = 0
    for shift in range(31, -1, -1):  # from the coefficient of x^0 on
        if one >> shift & 1:
            product ^= other
        other = other >> 1 ^ (_POLYNOMIAL if other & 1 else 0)
    return product
