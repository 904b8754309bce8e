"""Messages of the contract as JSON and back, strictly.

Names are the proto's. 64-bit integers are JSON numbers. A field without presence is always written, in the proto's
order, unless its rest_field option says otherwise; null is never written, and read as absent. A whole number is digits
alone: 1.0 and 1e3 are refused, for beyond 2^53 they may not be what was meant.
"""

import json
import math
import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from datas3t import v1
from datas3t.server.errors import Failure

_WHOLE = {
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
}
_TYPES = {*_WHOLE, FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BOOL, FieldDescriptor.TYPE_DOUBLE}
_SHOWN = 100  # characters of a caller's own text that a message repeats


def check(message: Descriptor) -> None:
    """Raises TypeError where a message, or one inside it, has a field that this module cannot tell."""
    for field in _visible(message):
        inner = field.message_type
        if (
            inner is not None
            and field.type == FieldDescriptor.TYPE_MESSAGE
            and not inner.full_name.startswith("google.")
        ):
            check(inner)
        elif field.type not in _TYPES:
            raise TypeError(f"{field.full_name} has a type that REST cannot tell")


def encode(message: Message, only: str = "") -> bytes:
    """The message's JSON; with `only`, that of the one field of this name."""
    value = _written(message)
    return json.dumps(value[only] if only else value, ensure_ascii=False, separators=(",", ":")).encode()


def decode(body: bytes, message: Message) -> None:
    """Fills a new request from a JSON object. Raises Failure (MALFORMED_REQUEST, UNKNOWN_FIELD, INVALID_VALUE)."""
    given = _parsed(body)
    if not isinstance(given, dict):
        raise _malformed("the body must be a JSON object")
    _fill(message, given, "")
    _fix(message)


def decode_query(pairs: Iterable[tuple[str, str]], message: Message) -> None:
    """Fills a new request from the query of a URL. Raises Failure as decode does."""
    given: dict[str, Any] = {}
    for name, text in pairs:
        field = _field(message, name, "")
        if name in given:
            raise _malformed(f"{_quoted(name)} is given twice", name)
        given[name] = _from_text(field, text)
    _fill(message, given, "")
    _fix(message)


def unknown_field(name: str) -> Failure:
    return Failure(
        v1.ERROR_REASON_UNKNOWN_FIELD,
        f"there is no field {_quoted(name)} in this request; remove it",
        field=name[:_SHOWN],
    )


def _parsed(body: bytes) -> Any:
    if not body.strip():
        raise _malformed("the body is empty; send a JSON object")
    try:
        return json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_constant)
    except UnicodeDecodeError as error:
        raise _malformed(f"the body is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise _malformed(f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise _malformed("the body is nested too deeply") from None
    except ValueError:  # Python's guard against numbers of thousands of digits
        raise _malformed("the body has a number of too many digits") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _malformed(f"{_quoted(name)} is given twice", name)
        found[name] = value
    return found


def _constant(name: str) -> None:
    raise _malformed(f"the body is not JSON: {name} is no JSON number")


def _fill(message: Message, given: dict[str, Any], where: str) -> None:
    for name, value in given.items():
        field = _field(message, name, where)
        if value is None:
            continue
        path = where + name
        if field.is_repeated:
            _extend(message, field, value, path)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            inner = getattr(message, name)
            inner.SetInParent()
            _fill(inner, _typed(value, dict, "an object", path), path + ".")
        else:
            setattr(message, name, _scalar(field, value, path))


def _extend(message: Message, field: FieldDescriptor, value: Any, path: str) -> None:
    into = getattr(message, field.name)
    for number, item in enumerate(_typed(value, list, "a list", path)):
        at = f"{path}[{number}]"
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            _fill(into.add(), _typed(item, dict, "an object", at), at + ".")
        else:
            into.append(_scalar(field, item, at))


def _scalar(field: FieldDescriptor, value: Any, path: str) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return _text(_typed(value, str, "a string", path), path)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _typed(value, bool, "true or false", path)
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        number = _typed(value, (int, float), "a number", path)
        if not math.isfinite(number):
            raise _invalid(path, "a finite number")
        return number
    lowest, highest = _WHOLE[field.type]
    number = _typed(value, int, "a whole number, without quotes, fraction or exponent", path)
    if not lowest <= number <= highest:
        raise _invalid(path, f"from {lowest} to {highest}")
    return number


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _invalid(path, "text: it has half of a surrogate pair") from None
    return value


def _typed(value: Any, kinds: type | tuple[type, ...], wanted: str, path: str) -> Any:
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
        raise _malformed(f"{_quoted(path)} must be {wanted}", path)
    return value


def _from_text(field: FieldDescriptor, text: str) -> Any:
    """A query parameter's text as JSON would have it; what does not fit stays text, and is refused as such."""
    if field.type in _WHOLE and re.fullmatch("-?[0-9]{1,30}", text):
        return int(text)
    if field.type == FieldDescriptor.TYPE_BOOL and text in ("true", "false"):
        return text == "true"
    return text


def _field(message: Message, name: str, where: str) -> FieldDescriptor:
    field = message.DESCRIPTOR.fields_by_name.get(name)
    if field is None or _option(field).grpc_only:
        raise unknown_field(where + name)
    return field  # type: ignore[return-value] # the stubs tell upb's descriptors apart


def _fix(message: Message) -> None:
    for field in message.DESCRIPTOR.fields:
        if _option(field).fixed:
            setattr(message, field.name, True)


def _written(message: Message) -> dict[str, Any]:
    found = {}
    for field in _visible(message.DESCRIPTOR):
        value = getattr(message, field.name)
        if field.has_presence and not message.HasField(field.name):
            continue
        if _option(field).leave_out_empty and not value:
            continue
        found[field.name] = _value(field, value)
    return found


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return [_written(item) for item in value] if field.is_repeated else _written(value)
    return list(value) if field.is_repeated else value


@cache
def _visible(message: Descriptor) -> Sequence[FieldDescriptor]:
    return tuple(field for field in message.fields if not _option(field).grpc_only)


@cache
def _option(field: FieldDescriptor) -> v1.RestField:
    return field.GetOptions().Extensions[v1.rest_field]


def _malformed(message: str, field: str = "") -> Failure:
    about = {"field": field[:_SHOWN]} if field else {}
    return Failure(v1.ERROR_REASON_MALFORMED_REQUEST, message, **about)


def _invalid(path: str, allowed: str) -> Failure:
    return Failure(v1.ERROR_REASON_INVALID_VALUE, f"{_quoted(path)} must be {allowed}", field=path[:_SHOWN])


def _quoted(name: str) -> str:
    return json.dumps(name if len(name) <= _SHOWN else name[:_SHOWN] + "…")
