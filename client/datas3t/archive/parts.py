"""Sizes of the parts of an upload, and S3's limits (AWS, "Amazon S3 multipart upload limits"). All sizes are bytes."""

MIN_PART = 5 << 20  # the smallest part that S3 accepts, except for the last one
MAX_PART = 4 << 30  # the largest part that is made; Amazon accepts 5 GiB, others a little less
MAX_PARTS = 10_000  # the maximum number of parts of one object
MAX_OBJECT = 5 << 40  # the largest object that S3 stores
MAX_PUT = 5 << 30  # the largest object in a single PUT; indices are always sent in one

# Fixed by the contract (StartUpload): smaller archives are sent in one PUT, others in parts of at least this size.
DIRECT_PUT_LIMIT = 20 << 20


def is_direct(size: int) -> bool:
    """Whether an archive of `size` bytes is uploaded in one PUT rather than in parts."""
    return size < DIRECT_PUT_LIMIT


def part_size(size: int) -> int:
    """Return the size of each part but the last, for an archive of `size` bytes.

    It is 20 MiB, doubled until 10,000 parts are enough.
    """
    part = DIRECT_PUT_LIMIT
    while part * MAX_PARTS < size:
        part *= 2
    return part


def part_count(size: int) -> int:
    """Return the number of parts of an archive of `size` bytes."""
    return -(-size // part_size(size))
