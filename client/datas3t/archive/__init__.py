"""The format: TAR rules, index records, object names and how archives are joined (docs/format.md).

No module of this package needs a network or a database.
"""

from datas3t.text import escaped


class FormatError(ValueError):
    """An archive or an index breaks a rule; the message names the place and the rule, in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(escaped(message))


class ArchiveError(FormatError):
    """An archive breaks a rule of the format."""


class IndexFormatError(FormatError):
    """An index is damaged, or does not fit its archive."""
