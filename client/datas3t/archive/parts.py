"""Part sizes of multipart uploads, and S3's limits (AWS, "Amazon S3 multipart upload limits")."""

MIN_PART = 5 << 20  # every part but the last
MAX_PART = 5 << 30
MAX_PARTS = 10_000
MAX_OBJECT = 5 << 40
MAX_PUT = 5 << 30  # an object that is sent in one piece, as indices are

DIRECT_PUT_LIMIT = 20 << 20  # from this size on an archive goes in parts, of this size at least


def is_direct(size: int) -> bool:
    """Whether an archive of this size goes up in one PUT."""
    return size < DIRECT_PUT_LIMIT


def part_size(size: int) -> int:
    """The size of each part but the last: 20 MiB, doubled until 10,000 parts are enough."""
    part = DIRECT_PUT_LIMIT
    while part * MAX_PARTS < size:
        part *= 2
    return part


def part_count(size: int) -> int:
    """How many parts an archive of this size has."""
    return -(-size // part_size(size))


def part_range(size: int, number: int) -> range:
    """The bytes of a part, counted from 1."""
    part = part_size(size)
    return range((number - 1) * part, min(number * part, size))
