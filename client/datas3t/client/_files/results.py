"""What a push and a pull return."""

from dataclasses import dataclass

ARCHIVE_SIZE = 256 << 20  # bytes of an archive that files are packed into


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did.

    Attributes:
        files: How many files were pushed; in a dry run, how many would be.
        size: Their size in bytes.
        archives: How many archives they are in.
        unchanged: How many files were there already.
        left_out: How many devices, pipes, sockets and links in circles were left out.
        failed: How many files and folders could not be pushed.
        notes: What was left out; of many, the first 100.
        failures: What failed and why; of many, the first 100.
    """

    files: int
    size: int
    archives: int
    unchanged: int
    left_out: int
    failed: int
    notes: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull did.

    Attributes:
        files: How many files were written.
        size: Their size in bytes.
        unchanged: How many files were there already, with the same size and checksum.
        failed: How many files were refused, or could not be fetched.
        failures: What failed and why; of many, the first 100.
    """

    files: int
    size: int
    unchanged: int
    failed: int
    failures: tuple[str, ...] = ()
