"""Keys by the server: reservations of consecutive keys, so that many writers never choose the same ones."""

from datetime import timedelta

from datas3t import v1
from datas3t.archive.names import MAX_KEY
from datas3t.server import datas3ts, values
from datas3t.server.call import current
from datas3t.server.db import datas3ts as datas3t_rows
from datas3t.server.db import key_reservations, pool
from datas3t.server.db.datas3ts import Datas3t
from datas3t.server.db.key_reservations import Reservation
from datas3t.server.db.pool import Connection
from datas3t.server.errors import Failure
from datas3t.server.resources import Resources

LIFETIME = timedelta(days=30)  # of a reservation whose keys are not all used


def reserve(resources: Resources, name: str, count: int, request_id: str) -> Reservation:
    """Reserve `count` consecutive keys above all that were ever used; a repeated request has the same result.

    Raises:
        Failure: KEYS_EXHAUSTED if there are not so many keys; REQUEST_ID_USED if the request has reserved another
            number of keys.
    """
    values.name("datas3t_name", name)
    values.request_id("request_id", request_id)
    values.count("count", count, 1)
    with pool.connection(resources.pool) as conn:
        while True:
            reservation = key_reservations.reserve(conn, name, count, request_id, LIFETIME)
            if reservation is None:
                reservation = _earlier(conn, name, count, request_id)
            if reservation is not None:
                return reservation
            current().raise_if_ended()


def raise_why_not(conn: Connection, datas3t: Datas3t, first: int, last: int, reservation_id: int) -> None:
    """Raise the failure of an upload whose keys are reserved, or are not those of its reservation.

    `reservation_id` is 0 for an upload without one. Do nothing if it may start.
    """
    own = key_reservations.by_id(conn, reservation_id, datas3t.id) if 0 < reservation_id <= MAX_KEY else None
    if own is not None and own.first_key <= first and last <= own.last_key:
        return
    about = {"datas3t": datas3t.name, "first": first, "last": last}
    if reservation_id:
        about["reservation_id"] = reservation_id
    other = key_reservations.overlapping(conn, datas3t.id, first, last)
    if other is not None and (own is None or other.id != own.id):
        next_key = datas3t_rows.next_free_key(conn, datas3t.id)
        about |= {"reserved_first": other.first_key, "reserved_last": other.last_key}
        advice = "give the reservation_id of these keys"
        if next_key <= MAX_KEY:
            about["next_key"] = next_key
            advice += f", or reserve others; the next free key is {next_key}"
        message = f"datapoints {first} to {last} of datas3t {datas3t.name!r} have keys that are reserved"
        raise Failure(
            v1.ERROR_REASON_KEYS_RESERVED, f"{message}, {other.first_key} to {other.last_key}; {advice}", **about
        )
    if own is not None:
        about |= {"reserved_first": own.first_key, "reserved_last": own.last_key}
        message = f"reservation {own.id} has the keys {own.first_key} to {own.last_key}, not {first} to {last}"
        raise Failure(v1.ERROR_REASON_KEYS_NOT_RESERVED, f"{message}; use its keys, or reserve others", **about)
    if reservation_id:
        message = f"datas3t {datas3t.name!r} has no reservation {reservation_id}, or it has ended; reserve keys again"
        raise Failure(v1.ERROR_REASON_RESERVATION_NOT_FOUND, message, **about)


def _earlier(conn: Connection, name: str, count: int, request_id: str) -> Reservation | None:
    """Return what the request has reserved before, or raise why it cannot; None if the call is to be tried again."""
    datas3t = datas3t_rows.by_name(conn, name)
    if datas3t is None:
        raise datas3ts.not_found(name)
    reservation = key_reservations.by_request(conn, datas3t.id, request_id)
    if reservation is not None:
        if reservation.count == count:
            return reservation
        message = f"request_id {request_id!r} has reserved {reservation.count} keys, not {count}; use another one"
        about = {"datas3t": name, "request_id": request_id, "count": reservation.count}
        raise Failure(v1.ERROR_REASON_REQUEST_ID_USED, message, **about)
    left = MAX_KEY + 1 - datas3t_rows.next_key(conn, datas3t.id)
    if left >= count:
        return None
    message = f"datas3t {name!r} has {left} keys left, not {count}; reserve fewer, or add another datas3t"
    raise Failure(v1.ERROR_REASON_KEYS_EXHAUSTED, message, datas3t=name, count=count, keys_left=left)
