"""The one place that knows psycopg's errors: what they mean for a call, in words without SQL, names or secrets."""

import psycopg

from datas3t import v1
from datas3t.server.errors import Failure

# What a broken constraint says. Its fields are the `about` of the transaction, and the metadata of the failure.
_CONSTRAINTS: dict[str, tuple[v1.ErrorReason.ValueType, str]] = {
    "dataranges_never_overlap": (
        v1.ERROR_REASON_DATARANGE_OVERLAPS,
        "datapoints {first} to {last} overlap a datarange of datas3t {datas3t!r}; what was uploaded is removed",
    ),
    "bucket_names_are_unique": (
        v1.ERROR_REASON_BUCKET_EXISTS,
        "bucket configuration {bucket!r} exists with other settings; use it as it is, or another name",
    ),
    "a_bucket_is_configured_once": (
        v1.ERROR_REASON_BUCKET_EXISTS,
        "another bucket configuration already has the endpoint and bucket of {bucket!r}; use that one",
    ),
    "buckets_in_use_stay": (
        v1.ERROR_REASON_BUCKET_NOT_FOUND,  # who deletes one looks first, so it went from under whoever was to use it
        "there is no bucket configuration {bucket!r} any more; add it, or list those there are",
    ),
    "buckets_with_deletions_stay": (
        v1.ERROR_REASON_BUCKET_IN_USE,
        "objects in bucket configuration {bucket!r} are still to be deleted; try again later",
    ),
}

_NO_ANSWER = "the database does not answer; nothing is lost, try again shortly"
_PREPARED = "a pooler lost a prepared statement; remove prepare_threshold from the server's DB_URL"

# What SQLSTATEs say, by their beginning: the longest that fits counts. All of them are about the database, and none is
# about the statement.
_STATES = {
    "08": _NO_ANSWER,
    "25006": "the database takes no changes: it is a standby, or read-only; the server's DB_URL must name the primary",
    "25P03": "the database ended a transaction that stood still for too long; nothing is lost, try again shortly",
    "25P04": "the database ended a transaction that took too long; nothing is lost, try again shortly",
    "26000": _PREPARED,
    "28": "the database refuses the server's user or password; correct the server's DB_URL",
    "3D000": "the server's database does not exist; create it, or correct the server's DB_URL",
    "40": "the database undid a transaction that was in the way of another; nothing is lost, try again shortly",
    "42501": "the database refuses the server's user a privilege; grant it on all tables of datas3t and their schema",
    "42P05": _PREPARED,
    "53": "the database is out of memory, disk space or connections; nothing is lost, make room and try again",
    "53100": "the database's disk is full; nothing is lost, make room on it and try again",
    "53300": "the database has no connection left; nothing is lost, raise its max_connections or try again shortly",
    "55P03": "another transaction holds what this call needs for too long; nothing is lost, try again shortly",
    "57": _NO_ANSWER,
    "57014": "the database took too long for a statement, or was told to end it; nothing is lost, try again shortly",
    "57P01": "the database is shutting down or restarting; nothing is lost, try again shortly",
    "57P03": "the database is starting or stopping; nothing is lost, try again shortly",
    "58": "the database's own files or system calls fail; nothing is lost, look into its log",
}

# What a connection that fails says. libpq gives no SQLSTATE, only the text of the database, which may be in another
# language: then the general advice has to do.
_ADVICE = (
    (("password", "authentication", "role "), "correct the user and the password in DB_URL"),
    (("pg_hba.conf",), "let the user in from this machine, or correct sslmode in DB_URL"),
    (("ssl", "certificate"), "correct sslmode and the certificates in DB_URL"),
    (('database "',), "create the database, or correct its name in DB_URL"),
    (("resolve", "translate host"), "correct the host in DB_URL"),
    (("invalid",), "correct DB_URL"),
)


def failure(error: psycopg.Error, about: dict[str, object]) -> Failure | None:
    """Return what an error means for a call, or None if it is a defect. `about` is that of the transaction."""
    constraint = _CONSTRAINTS.get(error.diag.constraint_name or "")
    if isinstance(error, psycopg.errors.IntegrityError) and constraint:
        reason, template = constraint
        return Failure(reason, template.format(**about), **about)
    words = _words(error)
    return Failure(v1.ERROR_REASON_DATABASE_UNAVAILABLE, words) if words else None


def start_failure(error: psycopg.Error) -> Failure | None:
    """Return what an error means for whoever starts the server, with its cause; None if it is a defect."""
    words = _words(error)
    if words is None:
        return None
    words = _connection_words(error) if error.sqlstate is None else f"{words} ({cause(error)})"
    return Failure(v1.ERROR_REASON_DATABASE_UNAVAILABLE, words)


def cause(error: BaseException) -> str:
    """Return the first line of an error, for the log: psycopg adds SQL and rows below it."""
    return (str(error).splitlines() or [""])[0].strip() or type(error).__name__


def _words(error: psycopg.Error) -> str | None:
    state = error.sqlstate or ""
    for length in (5, 2):
        if len(state) == 5 and (words := _STATES.get(state[:length])):
            return words
    return _NO_ANSWER if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)) else None


def _connection_words(error: psycopg.Error) -> str:
    text = cause(error).lower()
    for signs, advice in _ADVICE:
        if any(sign in text for sign in signs):
            return f"cannot connect to the database: {cause(error)}; {advice}"
    return f"the database does not answer: {cause(error)}; check that it runs and that DB_URL names it, then try again"
