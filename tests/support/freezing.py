"""A relay in its own process that can be stopped: everything behind it hangs, and connections stay open."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

from tests.support.stack import tied

_RELAY = """
import asyncio, sys
host, port = sys.argv[1], int(sys.argv[2])

async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()

async def relay(reader, writer):
    try:
        other_reader, other_writer = await asyncio.open_connection(host, port)
    except OSError:
        writer.close()
        return
    await asyncio.gather(pump(reader, other_writer), pump(other_reader, writer))

async def main():
    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


class Freezable:
    """The relay, and the URL that leads through it."""

    def __init__(self, process: "subprocess.Popen[str]", url: str) -> None:
        self._process = process
        self.url = url

    def freeze(self) -> None:
        """Let everything hang."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let everything go on."""
        os.kill(self._process.pid, signal.SIGCONT)


@contextlib.contextmanager
def freezable(url: str) -> Iterator[Freezable]:
    """Yield a relay to the host and port of a URL."""
    parts = urlsplit(url)
    command = [sys.executable, "-c", _RELAY, parts.hostname or "", str(parts.port)]
    with subprocess.Popen(tied(command), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        port = int(process.stdout.readline())
        try:
            yield Freezable(process, url.replace(f"{parts.hostname}:{parts.port}", f"127.0.0.1:{port}"))
        finally:
            process.kill()
