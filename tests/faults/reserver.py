"""A writer that reserves keys, request after request, and can be killed at any time: LOG DATAS3T COUNT URL.

A request without an answer is repeated when it is started again with the same log.
"""

import json
import sys
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from datas3t.client import Client, Unavailable
from tests.faults.writer import entries


def run(log: Path, name: str, count: int, url: str) -> None:
    """Reserve keys until `count` requests have been answered."""
    answered = {each["request"] for each in entries(log) if "first" in each}
    asked = [each["request"] for each in entries(log)]
    unanswered = [each for each in dict.fromkeys(asked) if each not in answered]
    with Client(url) as client, log.open("a") as out:
        while len(answered) < count:
            request = unanswered.pop() if unanswered else uuid4().hex
            print(json.dumps({"request": request}), file=out, flush=True)
            with suppress(Unavailable):
                reserved = client.reserve_keys(name, 1 + len(answered) % 5, request)
                print(json.dumps({"request": request, "first": reserved.first, "last": reserved.last}), file=out)
                out.flush()
                answered.add(request)
                continue
            unanswered.append(request)


if __name__ == "__main__":
    path, name, count, url = sys.argv[1:]
    run(Path(path), name, int(count), url)
