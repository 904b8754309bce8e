"""Translation of psycopg's errors to failures, with messages that contain no SQL, names or secrets."""

import psycopg

from datas3t import v1
from datas3t.server.errors import Failure

# The failures of violated constraints. The fields of a message are the keyword arguments of `pool.transaction`, which
# are also the metadata of the failure.
_CONSTRAINTS: dict[str, tuple[v1.ErrorReason.ValueType, str]] = {
    "dataranges_never_overlap": (
        v1.ERROR_REASON_DATARANGE_OVERLAPS,
        "datapoints {first} to {last} overlap a datarange of datas3t {datas3t!r}; the upload is removed",
    ),
    "bucket_names_are_unique": (
        v1.ERROR_REASON_BUCKET_EXISTS,
        "bucket configuration {bucket!r} exists with other settings; use it unchanged, or use another name",
    ),
    "a_bucket_is_configured_once": (
        v1.ERROR_REASON_BUCKET_EXISTS,
        "another bucket configuration already has the endpoint and bucket of {bucket!r}; use that one",
    ),
    "buckets_in_use_stay": (
        # Deletion checks for uses first, so this only happens if the configuration was deleted concurrently.
        v1.ERROR_REASON_BUCKET_NOT_FOUND,
        "there is no bucket configuration {bucket!r} any more; add it, or list the existing ones",
    ),
    "buckets_with_deletions_stay": (
        v1.ERROR_REASON_BUCKET_IN_USE,
        "objects in bucket configuration {bucket!r} are still to be deleted; try again later",
    ),
    "names_of_live_tokens_are_unique": (
        v1.ERROR_REASON_TOKEN_EXISTS,
        "another token that works has the name {token!r}; use another name, or revoke that token first",
    ),
}

_NO_RESPONSE = "the database does not respond; nothing is lost, try again shortly"
_PREPARED = "a pooler lost a prepared statement; remove prepare_threshold from the server's DB_URL"

# Messages by SQLSTATE, or by its first two characters. None of these states is caused by a defect of the statement.
_STATES = {
    "08": _NO_RESPONSE,
    "25006": "the database is a standby or read-only; the server's DB_URL must name the primary",
    "25P03": "the database ended a transaction that was idle for too long; nothing is lost, try again shortly",
    "25P04": "the database ended a transaction that took too long; nothing is lost, try again shortly",
    "26000": _PREPARED,
    "28": "the database refuses the server's user or password; correct the server's DB_URL",
    "3D000": "the server's database does not exist; create it, or correct the server's DB_URL",
    "40": "the database rolled back a transaction that conflicted with another; nothing is lost, try again shortly",
    "42501": "the server's user lacks a privilege; grant it on all tables of datas3t and their schema",
    "42P05": _PREPARED,
    "53": "the database is out of memory, disk space or connections; nothing is lost, make room and try again",
    "53100": "the database's disk is full; nothing is lost, make room on it and try again",
    "53300": "the database has no connection left; nothing is lost, raise its max_connections or try again shortly",
    "55P03": "another transaction holds a lock that this call needs; nothing is lost, try again shortly",
    "57": _NO_RESPONSE,
    "57014": "a statement took too long, or was cancelled; nothing is lost, try again shortly",
    "57P01": "the database is shutting down or restarting; nothing is lost, try again shortly",
    "57P03": "the database is starting or stopping; nothing is lost, try again shortly",
    "58": "the database has an error of its files or its system; nothing is lost, see its log",
}

# Advice for failed connections, by words in the text of the database. libpq provides no SQLSTATE for them. The text may
# be in another language: then the general advice is used.
_ADVICE = (
    (("password", "authentication", "role "), "correct the user and the password in DB_URL"),
    (("pg_hba.conf",), "allow the user to connect from this machine, or correct sslmode in DB_URL"),
    (("ssl", "certificate"), "correct sslmode and the certificates in DB_URL"),
    (('database "',), "create the database, or correct its name in DB_URL"),
    (("resolve", "translate host"), "correct the host in DB_URL"),
    (("invalid",), "correct DB_URL"),
)


def failure(error: psycopg.Error, fields: dict[str, object]) -> Failure | None:
    """Return the failure of a call, or None if the error is a defect. `fields`: those of the transaction."""
    constraint = _CONSTRAINTS.get(error.diag.constraint_name or "")
    if isinstance(error, psycopg.errors.IntegrityError) and constraint:
        reason, template = constraint
        return Failure(reason, template.format(**fields), **fields)
    message = _message(error)
    return Failure(v1.ERROR_REASON_DATABASE_UNAVAILABLE, message) if message else None


def start_failure(error: psycopg.Error) -> Failure | None:
    """Return the failure of a start, with its cause for the operator, or None if the error is a defect."""
    message = _message(error)
    if message is None:
        return None
    message = _connection_message(error) if error.sqlstate is None else f"{message} ({cause(error)})"
    return Failure(v1.ERROR_REASON_DATABASE_UNAVAILABLE, message)


def cause(error: BaseException) -> str:
    """Return the first line of an error, for the log: psycopg adds SQL and rows below it."""
    return (str(error).splitlines() or [""])[0].strip() or type(error).__name__


def _message(error: psycopg.Error) -> str | None:
    """Return the message for an error, or None if it is a defect."""
    state = error.sqlstate or ""
    for length in (5, 2):
        if len(state) == 5 and (message := _STATES.get(state[:length])):
            return message
    return _NO_RESPONSE if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)) else None


def _connection_message(error: psycopg.Error) -> str:
    """Return the message for a failed connection, with the text of the database and advice."""
    text = cause(error).lower()
    for words, advice in _ADVICE:
        if any(word in text for word in words):
            return f"cannot connect to the database: {cause(error)}; {advice}"
    return f"the database does not respond: {cause(error)}; check that it runs and that DB_URL names it, then try again"
