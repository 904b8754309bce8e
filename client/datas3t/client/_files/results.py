"""What a push, a pull and an import of shards return."""

from collections.abc import Mapping
from dataclasses import dataclass, field

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


@dataclass(frozen=True, slots=True)
class ImportedShards:
    """What an import of shards did.

    Attributes:
        shards: How many shards were imported.
        samples: How many samples they have.
        size: The size of their contents in bytes.
        datas3ts: The datas3t of each field, by the field; of "" if samples are one datapoint each.
        unchanged: How many shards were imported earlier.
        left_out: How many entries of shards are no file of a sample.
        failed: How many shards could not be imported to their end.
        notes: What was left out, and what else is worth knowing; of many, the first 100.
        failures: What failed and why; of many, the first 100.
    """

    shards: int
    samples: int
    size: int
    datas3ts: Mapping[str, str] = field(default_factory=dict)
    unchanged: int = 0
    left_out: int = 0
    failed: int = 0
    notes: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
