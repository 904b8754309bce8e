"""How hard a transfer tries."""

from dataclasses import dataclass

from datas3t.client.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Tuning:
    """`parallelism` requests are under way at a time; each is tried again up to `retries` times."""

    parallelism: int = 4
    retries: int = 3

    def __post_init__(self) -> None:
        if self.parallelism < 1:
            raise InvalidArgument(f"max_parallelism is {self.parallelism}; it must be 1 or more")
        if self.retries < 0:
            raise InvalidArgument(f"max_retries is {self.retries}; it must be 0 or more")
