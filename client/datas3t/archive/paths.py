"""The column `path` of the table `files`: the names of files, which are bytes, as text (docs/format.md, "Files").

A path is its name in UTF-8. Bytes that are not valid UTF-8, and the percent sign, are written as `%` and two
hexadecimal digits, so every name has exactly one text, and every text that `encode` returns its name.
"""

import re

from datas3t.archive import FormatError

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
_UNDECODABLE = re.compile(r"[\udc80-\udcff]")  # how Python represents bytes that are not valid UTF-8


class PathError(FormatError):
    """A name or a path cannot be converted."""


def encode(name: bytes | str) -> str:
    r"""Return the path of a file with this name, which may have several components.

    Args:
        name: The name's bytes, or its text as `os.fsdecode` returns it.

    Raises:
        PathError: The text has a character that no file's name has.

    Example:
        >>> encode(b"caf\xe9/100%.jpg")
        'caf%E9/100%25.jpg'
    """
    if isinstance(name, str):
        name = _in_bytes(name)
    try:
        path = name.decode()
    except UnicodeDecodeError:
        path = name.replace(b"%", b"%25").decode("utf-8", "surrogateescape")
        return _UNDECODABLE.sub(lambda found: f"%{ord(found[0]) - 0xDC00:02X}", path)
    return path.replace("%", "%25") if "%" in path else path


def decode(path: str) -> bytes:
    r"""Return the bytes of the name that a path stands for.

    Raises:
        PathError: A percent sign is not followed by two hexadecimal digits, or a character is half of a pair.

    Example:
        >>> decode("caf%E9/100%25.jpg")
        b'caf\xe9/100%.jpg'
    """
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        raise PathError(f"the path {path!r} is not valid Unicode") from None
    if b"%" not in encoded:
        return encoded
    for found in _ESCAPE.finditer(encoded):
        if found[1] is None:
            raise PathError(f"the path {path!r} has a % that is not followed by two hexadecimal digits")
    return _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), encoded)


def _in_bytes(name: str) -> bytes:
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise PathError(f"no file can be named {name!r}: it is not valid Unicode") from None
