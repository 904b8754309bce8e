"""Limits for the XML that S3 sends, so that no response takes much more memory when it is parsed than it has bytes."""

MAX_RESPONSE = 8 << 20  # bytes; a page of 1,000 keys of 1,024 bytes, with each byte written as %XX, has half of that
_MAX_MARKS = 150_000  # a page of 1,000 keys has some 50,000
_MARKS = b"<\"'&\n\r"  # each element begins with one, each attribute has two, and each ends a piece of a text


def check_markup(document: bytes | bytearray) -> None:
    """Raise ValueError if the parts of an XML document would take a hundred times the memory of S3's largest responses.

    Also raise it for a document type, which can define entities that expand to any size. S3 sends none.
    """
    if b"<!DOCTYPE" in document:
        raise ValueError("the response has a document type")
    if len(document) - len(document.translate(None, _MARKS)) > _MAX_MARKS:
        raise ValueError("the response has more elements than a response of S3")
