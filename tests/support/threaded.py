"""Servers with a thread for each connection, which report what failed in one line."""

import socketserver
import sys
from http.server import HTTPServer
from typing import Any


class ThreadedServer(socketserver.ThreadingTCPServer):
    """A TCP server whose threads print an error without its traceback.

    Printing a traceback parses code. CPython 3.11 cannot always do that in two threads at once: a test that imports a
    module at that moment fails with "SystemError: AST constructor recursion depth mismatch".
    """

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print the error on one line."""
        print(f"{type(self).__name__}: {sys.exception()!r}", file=sys.stderr)


class ThreadedHTTPServer(ThreadedServer, HTTPServer):
    """The same for handlers of `http.server`."""

    daemon_threads = True
