"""Escaping of external text, such as object names and messages of servers, for terminals and logs.

A name may contain line feeds, escape sequences of terminals, and marks that change the direction of text. Unescaped,
they could forge lines, hide other text or change the state of the terminal.
"""

import re

# Control characters; line and paragraph separators; invisible marks and format characters, including all that change
# the direction of text. The two joiners are not included, because emoji and some scripts need them.
_UNSAFE = (
    r"\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\U000e0000-\U000e007f"
)
_UNDECODABLE = r"\udc80-\udcff"  # bytes of a file's name that are not valid Unicode, as Python represents them
_UNSAFE_CHARACTER = re.compile(rf"[{_UNSAFE}\ud800-\udfff]")
_UNSAFE_BUT_FOR_BYTES = re.compile(rf"(?![{_UNDECODABLE}])[{_UNSAFE}\ud800-\udfff]")


def escaped(text: str, *, keep: str = "", keep_bytes: bool = False) -> str:
    r"""Return the text on one line, with each unsafe character replaced by its escape sequence: `\n`, `\x1b`, `\u202e`.

    Args:
        text: Any text. Escape sequences in it are not escaped again.
        keep: Unsafe characters that are not escaped, such as the line feeds of a text with several lines.
        keep_bytes: Do not escape bytes that are not valid Unicode, so that `os.fsencode` can restore them.
    """
    if text.isprintable():
        return text
    unsafe = _UNSAFE_BUT_FOR_BYTES if keep_bytes else _UNSAFE_CHARACTER
    return unsafe.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def escaped_json(text: str) -> str:
    r"""Return an equivalent JSON text, with each unsafe character in its strings escaped as in `\u202e`."""
    return _UNSAFE_CHARACTER.sub(lambda found: found[0] if found[0] == "\n" else _json_escape(found[0]), text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))
