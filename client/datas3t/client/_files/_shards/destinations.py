"""The datas3ts that fields of samples go to, and keys that are the same in all of them."""

import re
from collections.abc import Iterable, Mapping, Sequence

from datas3t.archive import names
from datas3t.client._calls import buckets, datas3ts, keys
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.keys import Reservation
from datas3t.client._files._shards.spools import MISSING
from datas3t.client.errors import InvalidArgument

_MAX_FIELDS = 64
_OTHER = re.compile(r"[^A-Za-z0-9_-]")


def name_of(name: str, field: str) -> str:
    """Return the name of the datas3t for a field, or `name` itself for whole samples.

    Raises:
        InvalidArgument: No datas3t can have such a name.
    """
    whole = f"{name}--{_OTHER.sub('_', field)}" if field else name
    if not names.valid_name(whole):
        raise InvalidArgument(f"the field {field[:100]!r} would be in the datas3t {whole[:300]!r}, which is too long")
    return whole


class Destinations:
    """The datas3ts of an import. They are added when they are needed.

    Args:
        connection: The connection to the server.
        name: The name that those of fields begin with.
        bucket: The bucket configuration of new ones; None: that of `name`, of an earlier field, or the only one.

    Attributes:
        names: Their names, by field.
        next: The key that the next sample presumably has.
    """

    def __init__(self, connection: Connection, name: str, bucket: str | None) -> None:
        self._connection = connection
        self._name = name
        self._bucket = bucket
        self._known = {each.name: each.bucket for each in datas3ts.list_all(connection)}
        self._at: dict[str, int] = {}  # the next key of a field
        self.names: dict[str, str] = {}
        self.next = 1

    def add(self, fields: Iterable[str]) -> None:
        """Have a datas3t for each field.

        Raises:
            InvalidArgument: Two fields would have the same one, or there are too many, or no bucket is known.
        """
        for field in fields:
            if field in self.names:
                continue
            if field == MISSING:
                raise InvalidArgument(
                    f"a field is named {MISSING!r}, which marks what samples lack; choose other fields, or nest samples"
                )
            name = name_of(self._name, field)
            for other, taken in self.names.items():
                if taken == name:
                    raise InvalidArgument(
                        f"the fields {other!r} and {field!r} would both be in the datas3t {name!r}; choose one, "
                        "or nest samples"
                    )
            if len(self.names) == _MAX_FIELDS:
                raise InvalidArgument(
                    f"there are more than {_MAX_FIELDS} fields, among them {field!r}: the names of files may have dots "
                    "before their extensions; choose fields, or nest samples"
                )
            if name not in self._known:
                bucket = self._chosen_bucket()
                datas3ts.add(self._connection, name, bucket)
                self._known[name] = bucket
            self.names[field] = name

    def plan(self, fields: Iterable[str]) -> tuple[int, dict[str, int]]:
        """Return the key that the next samples presumably begin with, and how many keys fields are behind it."""
        for field in fields:
            if field not in self._at:
                self._at[field] = datas3ts.next_key(self._connection, self.names[field])
            self.next = max(self.next, self._at[field])
        gaps = {field: self.next - self._at[field] for field in fields}
        return self.next, {field: gap for field, gap in gaps.items() if gap}

    def used(self, fields: Iterable[str], first: int, count: int) -> None:
        """Note that samples with these fields have so many keys."""
        self.next = max(self.next, first + count)
        for field in fields:
            self._at[field] = max(self._at.get(field, 1), first + count)

    def reserve(
        self, fields: Sequence[str], count: int, request_id: str, target: int, gaps: Mapping[str, int]
    ) -> dict[str, Reservation]:
        """Reserve the same keys in the datas3ts of all fields.

        Args:
            fields: The fields.
            count: How many keys.
            request_id: What the requests are named by. The same one, with the same other arguments, reserves the same
                keys again.
            target: The first key, if nobody else reserves some meanwhile; as `plan` returned it.
            gaps: How many keys come before it, which stay unused; as `plan` returned them.

        Returns:
            The reservations, by field, all with the same keys.
        """
        while True:
            found = {}
            for field in sorted(fields):
                named = f"{request_id}-{target}"
                if gap := gaps.get(field):
                    keys.reserve(self._connection, self.names[field], gap, f"{named}-gap")
                found[field] = keys.reserve(self._connection, self.names[field], count, named)
            if len({each.first for each in found.values()}) <= 1:
                for each in found.values():
                    self.used(fields, each.first, count)
                return found
            # Others have reserved keys: go on behind all of them.
            target = max(each.last for each in found.values()) + 1
            gaps = {field: target - each.last - 1 for field, each in found.items()}

    def _chosen_bucket(self) -> str:
        if self._bucket is not None:
            return self._bucket
        beside = (bucket for name, bucket in self._known.items() if name.startswith(f"{self._name}--"))
        if bucket := self._known.get(self._name) or next(beside, None):
            return bucket
        configured = buckets.list_all(self._connection)
        if len(configured) != 1:
            raise InvalidArgument(
                f"there are {len(configured)} bucket configurations; name the one for {self._name!r}, or add a datas3t "
                "of this name to it"
            )
        return configured[0].name
