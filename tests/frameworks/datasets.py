"""Datas3ts for the tests of this folder, whose contents say which key they belong to."""

import io
from dataclasses import dataclass
from pathlib import Path

from datas3t.archive import names, write
from datas3t.client import Client, Datas3t, KeySet


def content_of(key: int, size: int = 100) -> bytes:
    """Return the content of a key: the key, then bytes that follow from it."""
    return b"%020d" % key + bytes((key * 7 + place) % 256 for place in range(size + key % 13))


def key_in(content: bytes) -> int:
    """Return the key of a content; it is checked that the content is whole."""
    key = int(content[:20])
    assert content == content_of(key, len(content) - 20 - key % 13)
    return key


@dataclass(frozen=True)
class Uploader:
    """Uploads archives to the datas3t `name`."""

    client: Client
    name: str
    folder: Path

    def upload(self, first: int, last: int, size: int = 100, extension: str = "bin") -> None:
        """Upload the contents of the keys from `first` to `last`."""
        archive = io.BytesIO()
        for key in range(first, last + 1):
            content = content_of(key, size)
            archive.write(write.header(names.entry_name(key, extension), len(content)))
            archive.write(content + write.padding(len(content)))
        path = self.folder / f"{self.name}-{first}.tar"
        path.write_bytes(archive.getvalue() + write.END)
        self.client.upload_tar(self.name, path)
        path.unlink()

    @property
    def handle(self) -> Datas3t:
        """A new handle of the datas3t."""
        return self.client.datas3t(self.name)


SPANS = [(0, 99), (150, 249), (1000, 1036)]
KEYS = KeySet.of(SPANS)
