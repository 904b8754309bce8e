"""Text from elsewhere, such as names of objects and files and messages of servers, as a terminal or a log may show it.

A name may hold line feeds, escape sequences of terminals, and marks that make text read from right to left. Shown as
they are, they forge lines, hide other text or change the terminal.
"""

import re

# Control characters; line and paragraph separators; marks and formats without a look of their own, among them all that
# change the direction of text. The two joiners are left: emoji and some scripts need them.
_UNSAFE = (
    r"\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\U000e0000-\U000e007f"
)
_UNDECODABLE = r"\udc80-\udcff"  # bytes of a file's name that are no Unicode, as Python keeps them
_UNSAFE_CHARACTER = re.compile(rf"[{_UNSAFE}\ud800-\udfff]")
_UNSAFE_BUT_FOR_BYTES = re.compile(rf"(?![{_UNDECODABLE}])[{_UNSAFE}\ud800-\udfff]")


def escaped(text: str, *, keep: str = "", keep_bytes: bool = False) -> str:
    r"""Return the text in one line, with each unsafe character as its escape: `\n`, `\x1b`, `\u202e`.

    Args:
        text: Anything. What is escaped already stays as it is.
        keep: Unsafe characters that are left, such as the line feeds of a text of ours.
        keep_bytes: Leave bytes that are no Unicode, which `os.fsencode` restores.
    """
    if text.isprintable():
        return text
    unsafe = _UNSAFE_BUT_FOR_BYTES if keep_bytes else _UNSAFE_CHARACTER
    return unsafe.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def escaped_json(text: str) -> str:
    r"""Return a JSON text that means the same, with each unsafe character in its strings as `\u202e`."""
    return _UNSAFE_CHARACTER.sub(lambda found: found[0] if found[0] == "\n" else _json_escape(found[0]), text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))
