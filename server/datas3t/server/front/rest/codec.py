"""Messages of the contract to JSON and back, strictly.

Field names are the proto's. 64-bit integers are JSON numbers. A field without presence is always written, in the
proto's order, unless its rest_field option leaves it out; null is never written, and is read as absent. An integer must
be digits alone, with or without quotes: 1.0 and 1e3 are refused, because a client that writes floats has lost digits
beyond 2^53.
"""

import json
import math
import re
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from datas3t import v1
from datas3t.server.errors import Failure

# The types of integers, each with its lowest and its highest value.
INTEGERS = {
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
}
_TYPES = {*INTEGERS, FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BOOL, FieldDescriptor.TYPE_DOUBLE}

# The failures that a key or an id may cause that was not given, and so is 0.
_ABOUT_NUMBERS = {
    v1.ERROR_REASON_DATARANGE_NOT_FOUND,
    v1.ERROR_REASON_DATARANGE_OVERLAPS,
    v1.ERROR_REASON_DATAPOINTS_NOT_FOUND,
    v1.ERROR_REASON_KEYS_NOT_RESERVED,
    v1.ERROR_REASON_AGGREGATE_RANGE_UNFIT,
    v1.ERROR_REASON_TABLE_FILE_NOT_FOUND,
    v1.ERROR_REASON_UPLOAD_NOT_FOUND,
    v1.ERROR_REASON_AGGREGATE_NOT_FOUND,
}
INTEGER = re.compile("-?[0-9]{1,30}")  # what quotes may hold
_MAX_QUOTED = 100  # characters of a field name from the request that an error repeats


def check(message: Descriptor) -> None:
    """Raise TypeError if the message, or one inside it, has a field of a type that this module does not convert."""
    for field in visible(message):
        inner = field.message_type
        if (
            inner is not None
            and field.type == FieldDescriptor.TYPE_MESSAGE
            and not inner.full_name.startswith("google.")
        ):
            check(inner)
        elif field.type not in _TYPES:
            raise TypeError(f"{field.full_name} has a type that REST cannot send")


def encode(message: Message, only: str = "") -> bytes:
    """Return the message's JSON, or with `only` the JSON of the field of this name."""
    fields = _fields(message)
    return json.dumps(fields[only] if only else fields, ensure_ascii=False, separators=(",", ":")).encode()


def listing_start(message: Descriptor, only: str) -> bytes:
    """Return the JSON of a listing up to its first object, where the message has one field, or `only` is its name."""
    (field,) = visible(message)
    return b"[" if only else b'{"%s":[' % field.name.encode()


def listing_end(only: str) -> bytes:
    """Return the JSON of a listing after its last object."""
    return b"]" if only else b"]}"


def decode(body: bytes, message: Message) -> set[str]:
    """Fill a new request from a JSON object, and return the names of the fields that it has.

    Raises:
        Failure: MALFORMED_REQUEST, UNKNOWN_FIELD or INVALID_VALUE.
    """
    given = _parsed(body)
    if not isinstance(given, dict):
        raise _malformed("the body must be a JSON object")
    return _filled(message, given)


def decode_query(pairs: Iterable[tuple[str, str]], message: Message) -> set[str]:
    """Fill a new request from the parameters of a URL's query, and return their names.

    Raises:
        Failure: as `decode` does.
    """
    given: dict[str, Any] = {}
    for name, text in pairs:
        field = _field(message, name, "")
        if name in given:
            raise _malformed(f"{_quoted(name)} is given twice", name)
        given[name] = _from_text(field, text)
    return _filled(message, given)


def refuse_query(pairs: Iterable[tuple[str, str]], message: Descriptor) -> None:
    """Raise UNKNOWN_FIELD for a parameter in the query of a request that has its fields in the body."""
    for name, _ in pairs:
        raise _misplaced(
            name, message, "belongs in the JSON body of this request, not in the query of its URL; move it"
        )


def refuse_body(body: bytes, message: Descriptor) -> None:
    """Raise UNKNOWN_FIELD for a field in the body of a request that has its fields in the query of its URL.

    A body that is not a JSON object is ignored: some clients send one with every request.
    """
    if not body:
        return
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        return
    for name in given if isinstance(given, dict) else ():
        raise _misplaced(name, message, "belongs in the query of the URL of this request, not in its body; move it")


def missing_field(failure: Failure, message: Descriptor, given: Collection[str]) -> Failure | None:
    """Return the failure to raise instead if it is about the value that a field has because it was not given.

    `given` has the names of the fields that the request has.
    """
    absent = {each.name: each for each in visible(message) if each.name not in given}
    field = ""
    if failure.reason == v1.ERROR_REASON_INVALID_VALUE:
        field = failure.metadata.get("field", "")
    elif failure.reason in _ABOUT_NUMBERS:
        needed = (each for each in absent.values() if not (each.is_repeated or each.has_presence))
        field = next((each.name for each in needed if each.type in INTEGERS), "")
    if field not in absent:
        return None
    return Failure(v1.ERROR_REASON_INVALID_VALUE, f"{_quoted(field)} is missing; add it to the request", field=field)


def _misplaced(name: str, message: Descriptor, advice: str) -> Failure:
    if name not in {field.name for field in visible(message)}:
        return _unknown_field(name)
    return Failure(v1.ERROR_REASON_UNKNOWN_FIELD, f"{_quoted(name)} {advice}", field=name)


def _unknown_field(name: str) -> Failure:
    return Failure(
        v1.ERROR_REASON_UNKNOWN_FIELD,
        f"there is no field {_quoted(name)} in this request; remove it",
        field=name[:_MAX_QUOTED],
    )


def _parsed(body: bytes) -> Any:
    if not body.strip():
        raise _malformed("the body is empty; send a JSON object")
    try:
        return json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise _malformed(f"the body is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise _malformed(f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise _malformed("the body is nested too deeply") from None
    except ValueError:  # Python refuses to convert numbers of thousands of digits, which would take long
        raise _malformed("the body has a number with too many digits") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object's fields; the json module by itself would keep the last of two with the same name."""
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise _malformed(f"{_quoted(name)} is given twice", name)
        fields[name] = value
    return fields


def _refuse_constant(name: str) -> None:
    raise _malformed(f"the body is not JSON: {name} is not a JSON number")


def _filled(message: Message, given: dict[str, Any]) -> set[str]:
    _fill(message, given, "")
    _set_fixed(message)
    return {name for name, value in given.items() if value is not None}


def _fill(message: Message, given: dict[str, Any], prefix: str) -> None:
    """Set the message's fields from JSON values. In errors, `prefix` comes before the names of the fields."""
    for name, value in given.items():
        field = _field(message, name, prefix)
        if value is None:
            continue
        path = prefix + name
        if field.is_repeated:
            _extend(message, field, value, path)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            inner = getattr(message, name)
            inner.SetInParent()
            _fill(inner, _typed(value, dict, "an object", path), path + ".")
        else:
            setattr(message, name, _scalar(field, value, path))


def _extend(message: Message, field: FieldDescriptor, value: Any, path: str) -> None:
    items = getattr(message, field.name)
    for number, item in enumerate(_typed(value, list, "a list", path)):
        item_path = f"{path}[{number}]"
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            _fill(items.add(), _typed(item, dict, "an object", item_path), item_path + ".")
        else:
            items.append(_scalar(field, item, item_path))


def _scalar(field: FieldDescriptor, value: Any, path: str) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return _valid_text(_typed(value, str, "a string", path), path)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _typed(value, bool, "true or false", path)
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        number = _typed(value, (int, float), "a number", path)
        if not math.isfinite(number):
            raise _invalid(path, "a finite number")
        return number
    lowest, highest = INTEGERS[field.type]
    # Languages whose numbers are doubles send 64-bit integers in quotes, as protobuf's own JSON does.
    given = int(value) if isinstance(value, str) and INTEGER.fullmatch(value) else value
    number = _typed(given, int, "an integer, without fraction or exponent", path)
    if not lowest <= number <= highest:
        raise _invalid(path, f"from {lowest} to {highest}")
    return number


def _valid_text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _invalid(path, "valid Unicode; it has half of a surrogate pair") from None
    return value


def _typed(value: Any, kinds: type | tuple[type, ...], expected: str, path: str) -> Any:
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
        raise _malformed(f"{_quoted(path)} must be {expected}", path)
    return value


def _from_text(field: FieldDescriptor, text: str) -> Any:
    """Return the JSON value for a query parameter. Text of the wrong form is returned as it is, and refused later."""
    if field.type in INTEGERS and INTEGER.fullmatch(text):
        return int(text)
    if field.type == FieldDescriptor.TYPE_BOOL and text in ("true", "false"):
        return text == "true"
    return text


def _field(message: Message, name: str, prefix: str) -> FieldDescriptor:
    field = _by_name(message.DESCRIPTOR).get(name)
    if field is None:
        raise _unknown_field(prefix + name)
    return field


def _set_fixed(message: Message) -> None:
    """Set the fields that have one fixed value over REST, such as `all_urls`."""
    for name in _fixed(message.DESCRIPTOR):
        setattr(message, name, True)


def _fields(message: Message) -> dict[str, Any]:
    """Return the message's fields as JSON values, in the proto's order."""
    fields = {}
    for name, is_message, is_repeated, has_presence, leave_out_empty in _shapes(message.DESCRIPTOR):
        if has_presence and not message.HasField(name):
            continue
        value = getattr(message, name)
        if leave_out_empty and not value:
            continue
        if is_repeated:
            value = [_fields(item) for item in value] if is_message else list(value)
        elif is_message:
            value = _fields(value)
        fields[name] = value
    return fields


class _Shape(NamedTuple):
    """What `_fields` needs to know of a field; looking it up in the descriptor takes longer than all the rest."""

    name: str
    is_message: bool
    is_repeated: bool
    has_presence: bool
    leave_out_empty: bool


@cache
def _shapes(message: Descriptor) -> Sequence[_Shape]:
    return tuple(
        _Shape(
            field.name,
            field.type == FieldDescriptor.TYPE_MESSAGE,
            field.is_repeated,
            field.has_presence,
            option(field).leave_out_empty,
        )
        for field in visible(message)
    )


@cache
def _by_name(message: Descriptor) -> dict[str, FieldDescriptor]:
    """Return the fields of REST. protobuf's own map fails for names with half of a surrogate pair."""
    return {field.name: field for field in visible(message)}


@cache
def _fixed(message: Descriptor) -> Sequence[str]:
    return tuple(field.name for field in message.fields if option(field).fixed)


@cache
def visible(message: Descriptor) -> Sequence[FieldDescriptor]:
    """Return the fields that exist over REST, in the proto's order."""
    return tuple(field for field in message.fields if not option(field).grpc_only)


@cache
def option(field: FieldDescriptor) -> v1.RestField:
    """Return how a field appears over REST."""
    return field.GetOptions().Extensions[v1.rest_field]


def _malformed(message: str, field: str = "") -> Failure:
    metadata = {"field": field[:_MAX_QUOTED]} if field else {}
    return Failure(v1.ERROR_REASON_MALFORMED_REQUEST, message, **metadata)


def _invalid(path: str, allowed: str) -> Failure:
    return Failure(v1.ERROR_REASON_INVALID_VALUE, f"{_quoted(path)} must be {allowed}", field=path[:_MAX_QUOTED])


def _quoted(name: str) -> str:
    return json.dumps(name if len(name) <= _MAX_QUOTED else name[:_MAX_QUOTED] + "…")
