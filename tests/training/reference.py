"""The order of docs/training-order.md in plain integers, one place at a time, written from the page alone."""

WORD = (1 << 64) - 1
STEP = 0x9E3779B97F4A7C15


def mix(x: int) -> int:
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & WORD
    x = (x ^ x >> 27) * 0x94D049BB133111EB & WORD
    return x ^ x >> 31


def key(*words: int) -> int:
    h = 0
    for word in words:
        h = mix((h + word + STEP) & WORD)
    return h


def stream(k: int, i: int) -> int:
    return mix((k + i * STEP) & WORD)


def permuted(n: int, k: int, x: int) -> int:
    """Return P(n, k)[x]."""
    if n <= 4096:
        return sorted(range(n), key=lambda i: stream(k, i + 1))[x]
    bits = (n - 1).bit_length()
    low = bits // 2
    high = bits - low
    while True:
        left, right = x >> low, x & (1 << low) - 1
        for r in range(1, 13):
            if r % 2:
                left ^= mix((right + stream(k, r)) & WORD) & (1 << high) - 1
            else:
                right ^= mix((left + stream(k, r)) & WORD) & (1 << low) - 1
        x = left << low | right
        if x < n:
            return x


def global_position(length: int, seed: int, epoch: int, place: int) -> int:
    return permuted(length, key(1, seed, epoch, 0, length), place)


def window_positions(length: int, seed: int, epoch: int, block: int, window: int) -> list[int]:
    """Return the whole order of an epoch."""
    blocks = -(-length // block)
    windows = -(-blocks // window)
    size = -(-blocks // windows)
    blocks_key = key(2, seed, epoch, 0, blocks)
    read = [permuted(blocks, blocks_key, slot) for slot in range(blocks)]
    order = []
    for w in range(windows):
        concatenated = [
            position
            for number in read[w * size : (w + 1) * size]
            for position in range(number * block, min((number + 1) * block, length))
        ]
        m = len(concatenated)
        k = key(3, seed, epoch, w, m)
        order += [concatenated[permuted(m, k, place)] for place in range(m)]
    return order


def mixture_part(counts: list[int], seed: int, stretch: int, place: int) -> int:
    """Return the number of the part at a place of a stretch."""
    period, within = divmod(place, 10_000)
    slot = permuted(10_000, key(4, seed, stretch, period), within)
    part = 0
    while slot >= counts[part]:
        slot -= counts[part]
        part += 1
    return part
