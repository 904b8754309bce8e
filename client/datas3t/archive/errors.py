"""What breaks a rule of the format."""


class FormatError(ValueError):
    """An archive or an index breaks a rule; the message names the place and the rule, in one line."""


class ArchiveError(FormatError):
    """An archive breaks a rule."""


class IndexFormatError(FormatError):
    """An index is torn, or does not fit its archive."""
