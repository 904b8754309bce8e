"""The log: one line per event on standard error, with anything that looks like a secret removed as a last resort.

What a line says about the world, its arguments, is escaped: no name of an object forges a line. Lines that begin with
blanks belong to the event above them.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Mapping

from datas3t.text import escaped, escaped_json

_TIME = "%Y-%m-%dT%H:%M:%SZ"
_LEVEL_OF = {
    "boto3": "WARNING",
    "botocore": "WARNING",
    "urllib3": "WARNING",
    "s3transfer": "WARNING",
    "asyncio": "WARNING",
    "grpc": "CRITICAL",  # it logs clients that leave with a traceback; `front` logs the defects itself
    "aiohttp.server": "CRITICAL",  # it repeats what clients sent; `front` logs the defects itself
}

# Our own code logs none of these. They catch a secret in a message of some library. docs/secrets.md lists all places.
_SECRETS = (
    (re.compile(r"(?i)\b(X-Amz-[A-Za-z-]+)=[^&\s\"'<>)]*"), r"\1=***"),
    (re.compile(r"(?i)\b(Signature|Credential|AWSAccessKeyId)=[^&\s\"',<>)]*"), r"\1=***"),
    (re.compile(r"(?i)\b(postgres(?:ql)?://)[^\s\"'/@]*@"), r"\1***@"),
    (
        re.compile(
            r"(?i)(?<![a-z])(password|passwd|secret[_-]?(?:access[_-]?)?key|access[_-]?key(?:[_-]?id)?|encryption[_-]?key)"
            r"([\"']?\s*[=:]\s*[\"']?)[^\s\"'&,;)]+"
        ),
        r"\1\2***",
    ),
    (re.compile(r"\bd3t_[0-9]{1,19}_[0-9A-Za-z]{43}"), "***"),
    (re.compile(r"(?i)\b(authorization[\"']?\s*[=:]\s*[\"']?bearer |bearer )[A-Za-z0-9._~+/=-]{20,}"), r"\1***"),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), "***"),
)

# What a line must have for one of the patterns to match, in lower case. Looking for these takes a tenth of the time.
_TRACES = (
    "x-amz-",
    "d3t_",
    "bearer ",
    "signature",
    "credential",
    "accesskeyid",
    "://",
    "pass",
    "access",
    "secret",
    "encryption",
    "akia",
    "asia",
)


def configure(level: str = "info", style: str = "text") -> None:
    """Log to standard error, in UTC, everything from `level` on: debug, info, warning or error.

    `style` is `text`, or `json`: an object in each line.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if style == "json" else _Redacting())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name, minimum in _LEVEL_OF.items():
        logging.getLogger(name).setLevel(minimum)


def redacted(text: str) -> str:
    """Return the text with `***` in place of anything that looks like a secret."""
    if text.isascii():  # other letters may match without their case
        lower = text.lower()
        if not any(trace in lower for trace in _TRACES):
            return text
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


class Lines(str):
    """An argument of a log entry whose line feeds are meant, such as a traceback."""

    __slots__ = ()


class _Timed(logging.Formatter):
    """Writes the time in UTC, once for all lines of a second."""

    _second = (-1, "")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 - logging's names
        known, text = self._second
        if (second := int(record.created)) != known:
            text = time.strftime(_TIME, time.gmtime(second))
            self._second = second, text
        return text


class _Redacting(_Timed):
    """Redacts and escapes the whole record, its traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        arguments = record.args
        if isinstance(arguments, Mapping):
            arguments = {name: _argument(value) for name, value in arguments.items()}
        elif arguments:
            arguments = tuple(_argument(value) for value in arguments)
        message = str(record.msg) % arguments if arguments else str(record.msg)
        text = f"{self.formatTime(record)} {record.levelname} {record.name} {message}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        if record.stack_info:
            text += "\n" + record.stack_info
        text = redacted(text)
        return escaped(text) if "\n" not in text else "\n    ".join(escaped(line) for line in text.split("\n"))


class _Json(_Timed):
    """An object per entry: `ts`, `level`, `logger`, `message`, and the fields of the entry, such as `request_id`.

    JSON escapes what would forge a line. Secrets are redacted.
    """

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        entry = {
            "ts": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redacted(message),
        }
        return escaped_json(json.dumps({**getattr(record, "fields", {}), **entry}, default=str))


class _Shown:
    """Any object, which is escaped when it is formatted: not before, because formatting may be the expensive part."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return escaped(str(self._value))

    def __repr__(self) -> str:
        return escaped(repr(self._value))


def _argument(value: object) -> object:
    if isinstance(value, (int, float, Lines)) or (type(value) is str and value.isprintable()):
        return value
    return _Shown(value)
