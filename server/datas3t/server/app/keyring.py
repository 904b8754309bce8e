"""The keys of the stored credentials: the check at start, how many do not use the first key, and `datas3t rekey`."""

import logging
from collections.abc import Iterator
from typing import NamedTuple

from datas3t.server.credentials import Cipher
from datas3t.server.db import pool, s3_buckets
from datas3t.server.db.s3_buckets import S3Bucket
from datas3t.server.resources import Resources
from datas3t.server.settings import SettingsError

_PAGE = 1000
_BATCH = 100  # rows that are locked at a time, for some milliseconds
_MORE_PASSES = 2  # for what servers have added meanwhile; they may go on to write with another key for ever
_MAX_SHOWN = 3  # names in an error

_log = logging.getLogger(__name__)


class Rekeyed(NamedTuple):
    """How many bucket configurations there are, how many were written, and the names of those that no key decrypts."""

    total: int
    written: int
    unreadable: list[str]


def check(resources: Resources) -> None:
    """Log how many credentials do not use the first key. Raise SettingsError if none of the keys decrypts one."""
    others = 0
    for row in _rows(resources):
        others += _uses_other(resources.cipher, row)
        if _rewritten(resources.cipher, row) is None:
            raise SettingsError(
                f"the credentials of bucket configuration {row.name!r} were encrypted with another encryption key;"
                " add that key to --encryption-key or ENCRYPTION_KEY, after a comma"
            )
    if others:
        _log.warning(
            "the credentials of %d bucket configurations do not use the first encryption key; `datas3t rekey`"
            " encrypts them with it",
            others,
        )


def others(resources: Resources) -> int:
    """Return how many bucket configurations have credentials that are not encrypted with the first key."""
    return sum(_uses_other(resources.cipher, row) for row in _rows(resources))


def rekey(db_url: str, encryption_key: str) -> Rekeyed:
    """Encrypt all credentials with the first key, also while servers use and change them.

    Each batch is a transaction, so it may be ended at any time and called again, also twice at once.

    Raises:
        SettingsError: if the URL or a key is not valid.
        Failure: if the database cannot be used.
    """
    try:
        cipher = Cipher(encryption_key)
        with pool.connected(db_url) as conn:
            done = passed = _pass(conn, cipher)
            for _ in range(_MORE_PASSES):
                if not passed.written:
                    break
                passed = _pass(conn, cipher)
                done = Rekeyed(passed.total, done.written + passed.written, passed.unreadable)
            return done
    except ValueError as error:
        raise SettingsError(str(error)) from None


def _pass(conn: pool.Connection, cipher: Cipher) -> Rekeyed:
    """Go over all bucket configurations once, in the order of their names, in which all lock them."""
    total = written = 0
    unreadable: list[str] = []
    after = ""
    while True:
        with conn.transaction():
            rows = s3_buckets.locked_page(conn, after, _BATCH)
            for row in rows:
                if not _uses_other(cipher, row):
                    continue
                if (new := _rewritten(cipher, row)) is None:
                    unreadable.append(row.name)
                else:
                    written += s3_buckets.set_credentials(conn, row.id, *new)
        if not rows:
            return Rekeyed(total, written, unreadable)
        total += len(rows)
        after = rows[-1].name


def unreadable_message(names: list[str]) -> str:
    """Return the error about credentials that no key decrypts."""
    shown = ", ".join(map(repr, names[:_MAX_SHOWN])) + (" and others" if len(names) > _MAX_SHOWN else "")
    return (
        f"the credentials of {len(names)} bucket configurations were encrypted with a key that is not given: {shown};"
        " add that key after a comma and run this again, or update these configurations"
    )


def _rows(resources: Resources) -> Iterator[S3Bucket]:
    after = ""
    while True:
        with pool.connection(resources.pool) as conn:
            rows = s3_buckets.page(conn, after, _PAGE)
        yield from rows
        if not rows:
            return
        after = rows[-1].name


def _uses_other(cipher: Cipher, row: S3Bucket) -> bool:
    return not (cipher.is_first(row.access_key) and cipher.is_first(row.secret_key))


def _rewritten(cipher: Cipher, row: S3Bucket) -> tuple[str, str] | None:
    """Return the credentials encrypted with the first key, or None if no key decrypts them."""
    try:
        return cipher.encrypt(cipher.decrypt(row.access_key)), cipher.encrypt(cipher.decrypt(row.secret_key))
    except ValueError:
        return None
