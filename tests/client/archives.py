"""Archives on disk with seeded contents, and the bytes that tests expect to find again."""

import random
from dataclasses import dataclass
from pathlib import Path

from datas3t.archive import names, write

MIB = 1 << 20


@dataclass(frozen=True)
class Sample:
    """An archive at `path`, and the content of each key in it."""

    path: Path
    contents: dict[int, bytes]

    @property
    def first(self) -> int:
        """The first key."""
        return min(self.contents)

    @property
    def last(self) -> int:
        """The last key."""
        return max(self.contents)

    @property
    def data(self) -> bytes:
        """The bytes of the archive."""
        return self.path.read_bytes()

    def span(self, first: int, last: int) -> bytes:
        """Return the archive that a download of these keys should give."""
        return tar({key: content for key, content in self.contents.items() if first <= key <= last})


def sample(path: Path, first: int, *sizes: int, seed: int = 1) -> Sample:
    """Write an archive of datapoints of these sizes, numbered from `first` on."""
    source = random.Random(f"{seed} {first}")
    contents = {key: source.randbytes(size) for key, size in enumerate(sizes, first)}
    path.write_bytes(tar(contents))
    return Sample(path, contents)


def tar(contents: dict[int, bytes]) -> bytes:
    """Return the archive with these contents."""
    entries = []
    for key, content in contents.items():
        entries += [write.header(names.entry_name(key, "bin"), len(content)), content, write.padding(len(content))]
    return b"".join([*entries, write.END])
