"""The keys that a writer has reserved and not used yet. They are kept, so that a later writer with its id goes on."""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from datas3t.client._calls.keys import Reservation
from datas3t.client._transfers.output_file import os_errors_as_file_error
from datas3t.client.errors import FailedPrecondition, FileError
from datas3t.local import atomic

_MAX_AGE = 20 * 86_400  # seconds that a block is used for; the server keeps a reservation for 30 days


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive keys of one reservation.

    Attributes:
        reservation_id: The server's id of it.
        next: The first key that no spool has.
        last: The last key.
        reserved_at: When they were reserved, in seconds since 1970.
    """

    reservation_id: int
    next: int
    last: int
    reserved_at: float


class Keys:
    """The block of a writer, in the file `keys.json` of its folder.

    Args:
        folder: The folder.
        reserve: Has the server reserve so many keys.
    """

    def __init__(self, folder: Path, reserve: Callable[[int], Reservation]) -> None:
        self._path = folder / "keys.json"
        self._reserve = reserve
        self._block: Block | None = None
        with suppress(OSError, ValueError, TypeError):
            self._block = Block(**json.loads(self._path.read_bytes()))

    def block(self, count: int) -> Block:
        """Return keys that are left, or `count` new ones, or as many as the datas3t has if it has fewer."""
        block = self._block
        if block is None or block.next > block.last or time.time() - block.reserved_at > _MAX_AGE:
            reserved = self._reserved(count)
            block = Block(reserved.id, reserved.first, reserved.last, time.time())
            self._block = block
            with suppress(FileError):  # without the file, only keys that are left are lost
                self._save(block)
        return block

    def use_up_to(self, reservation_id: int, next_key: int) -> None:
        """Note that the keys of a reservation below `next_key` are those of spools.

        Raises:
            FileError: The disk is full.
        """
        block = self._block
        if block is not None and block.reservation_id == reservation_id and block.next < next_key:
            self._save(replace(block, next=next_key))

    def sync(self) -> None:
        """Wait until the file is on disk. Its name is when the folder is."""
        with os_errors_as_file_error(self._path), suppress(FileNotFoundError), self._path.open("rb") as file:
            os.fsync(file.fileno())

    def forget(self, reservation_id: int) -> None:
        """Forget the keys of a reservation that the server does not know any more."""
        if self._block is not None and self._block.reservation_id == reservation_id:
            self._path.unlink(missing_ok=True)
            self._block = None

    def _reserved(self, count: int) -> Reservation:
        try:
            return self._reserve(count)
        except FailedPrecondition as error:
            left = int(error.metadata.get("keys_left", 0)) if error.reason == "KEYS_EXHAUSTED" else 0
            if not left:
                raise
        return self._reserve(left)

    def _save(self, block: Block) -> None:
        with os_errors_as_file_error(self._path):
            atomic.write(self._path, json.dumps(asdict(block)).encode())
        self._block = block
