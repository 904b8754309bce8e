"""StackError: the one error of the embedded stack."""


class StackError(Exception):
    """The stack cannot start or go on. The message is one line: what happened and what to do next."""
