"""PostgreSQL and SeaweedFS from wheels, as child processes, for `datas3t up` and the tests."""


class StackError(Exception):
    """The services cannot start or continue. The message is one line: what happened and what to do next."""
