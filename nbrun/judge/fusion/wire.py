"""One HTTP connection to one endpoint: kept alive, bounded in time, and cut from outside by `socket.shutdown`.

Each connection is used by one worker thread at a time; `Call.cut` is called from any thread. Answers are read by the
standard library's http.client; why no other client is used: docs/decisions/http_client.md.
"""

from __future__ import annotations

import errno
import functools
import http.client
import os
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Mapping
from typing import NamedTuple

from nbrun.errors import JudgeError
from nbrun.judge.fusion.addresses import Address

#: No answer is as long as this: what goes on behind it is no answer.
LONGEST_ANSWER = 1 << 29
_PIECE = 1 << 18
_IDLE_S = 60.0  # a connection that waited longer is made anew
_SURELY_OPEN_S = 2.0  # servers keep an idle one longer than that
_CLOCK_S = 0.02  # how early the kernel's time-out may seem to be
_PROBE_AFTER_S, _PROBE_EVERY_S, _PROBES = 20, 10, 3  # TCP's own: notices machines that are gone


class Refused(Exception):
    """The endpoint never got the request."""


class Lost(Exception):
    """The endpoint got the request, and no whole answer came back."""


class TooManyFiles(Exception):
    """This process may not open another connection: no endpoint's fault."""


class Answer(NamedTuple):
    """What an endpoint sent back."""

    status: int
    body: bytes


class Call:
    """What `cancel` cuts: all that goes over the wire for one task.

    Threads: `cut` from any; the rest is the task's worker's.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects all below
        self._socket: socket.socket | None = None
        self.is_cut = False

    def cut(self) -> None:
        """Ends what is on its way: closing a client would wake nobody, a shut socket wakes who reads from it."""
        with self._lock:
            self.is_cut = True
            if self._socket is not None:
                _shut(self._socket)

    def hold(self, sock: socket.socket | None) -> None:
        """From now on `cut` ends what happens on this socket."""
        with self._lock:
            self._socket = sock
            if self.is_cut and sock is not None:
                _shut(sock)

    def check(self) -> None:
        """Raises JudgeError once it was cut."""
        if self.is_cut:
            raise JudgeError("cancelled while it was judged: nothing is known of the solution.")


class Line:
    """A connection.

    Args:
        connect_timeout_s: how long to wait for it.
    """

    def __init__(self, address: Address, connect_timeout_s: float) -> None:
        self._address, self._connect_timeout_s = address, connect_timeout_s
        self._socket: socket.socket | None = None
        self._used_at = 0.0
        self._died_at_once = False
        self._timeout_s = -1.0  # that the socket has

    def close(self) -> None:
        """Lets the connection go."""
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    def ask(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], timeout_s: float, call: Call
    ) -> Answer:
        """Sends a request and waits for the whole answer.

        Raises:
            Refused: there is no connection to be had.
            Lost: the answer didn't come in time, or was cut.
            JudgeError: the call was cut from here.
        """
        a = self._address
        lines = [f"{method} {a.path}{path} HTTP/1.1", f"Host: {a.host_and_port}", f"Content-Length: {len(body)}"]
        head = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "\r\n"])
        request = head.encode("latin-1") + body
        kept = self._is_fresh()
        try:
            return self._ask(method, request, timeout_s, call)
        except Lost:
            if not kept or call.is_cut or not self._died_at_once:
                raise
        return self._ask(method, request, timeout_s, call)  # the server had just closed the old connection

    def _is_fresh(self) -> bool:
        """Whether a kept connection can be used; closes one that can't."""
        sock = self._socket
        if sock is None:
            return False
        idle_s = time.monotonic() - self._used_at
        if idle_s > _IDLE_S or (idle_s > _SURELY_OPEN_S and _has_something_to_say(sock)):
            self.close()
            return False
        return True

    def _ask(self, method: str, request: bytes, timeout_s: float, call: Call) -> Answer:
        sock = self._socket = self._socket or self._connect(call)
        deadline = time.monotonic() + timeout_s
        call.hold(sock)
        self._died_at_once = False
        response = http.client.HTTPResponse(sock, method=method)
        try:
            self._wait_at_most(sock, timeout_s)
            sock.sendall(request)
            response.begin()
            answer = Answer(response.status, self._read(response, sock, deadline))
        except (http.client.HTTPException, OSError, ValueError) as e:
            self.close()
            call.check()
            is_late = time.monotonic() >= deadline - _CLOCK_S
            self._died_at_once = not is_late and isinstance(e, (http.client.RemoteDisconnected, ConnectionError))
            raise Lost(_said(TimeoutError() if is_late else e, timeout_s)) from e
        finally:
            response.close()
            call.hold(None)
        self._used_at = time.monotonic()
        if response.will_close:
            self.close()
        call.check()
        return answer

    def _wait_at_most(self, sock: socket.socket, timeout_s: float) -> None:
        """The kernel's own time-out: Python's would poll before each call, and each gives the GIL away. TLS, which
        tries again where the kernel gives up, needs Python's."""
        if self._address.is_secure:
            sock.settimeout(timeout_s)
        elif timeout_s != self._timeout_s:
            whole = int(timeout_s)
            value = struct.pack("ll", whole, int((timeout_s - whole) * 1e6) or (0 if whole else 1))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
            self._timeout_s = timeout_s

    def _read(self, response: http.client.HTTPResponse, sock: socket.socket, deadline: float) -> bytes:
        """The body: whole, in time, and not without end."""
        pieces: list[bytes] = []
        size = 0
        while response.length is None or response.length > 0:
            if pieces:  # the first one is mostly the last
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError
                self._wait_at_most(sock, left_s)
            piece = response.read1(_PIECE)  # what is there: a whole piece may drip in for ever
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
            if size > LONGEST_ANSWER:
                raise ValueError(f"the answer is longer than {LONGEST_ANSWER >> 20} MiB")
        if response.length:  # Content-Length promised more
            raise http.client.IncompleteRead(b"", response.length)
        return b"".join(pieces)

    def _connect(self, call: Call) -> socket.socket:
        a = self._address
        error: OSError | None = None
        try:
            places = socket.getaddrinfo(a.host, a.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as e:
            raise Refused(f"the host {a.host!r} is not known ({e})") from e
        for family, kind, protocol, _, where in places:
            call.check()
            sock: socket.socket | None = None
            try:
                sock = socket.socket(family, kind, protocol)
                call.hold(sock)
                sock.settimeout(self._connect_timeout_s)
                sock.connect(where)
                _tune(sock)
                sock.settimeout(None)
                self._timeout_s = -1.0
                return _tls().wrap_socket(sock, server_hostname=a.host) if a.is_secure else sock
            except OSError as e:
                if sock is not None:
                    sock.close()
                if e.errno in (errno.EMFILE, errno.ENFILE):
                    raise TooManyFiles(f"{e.strerror} ({len(os.listdir('/dev/fd'))} are open)") from e
                error = e
            finally:
                call.hold(None)
        call.check()
        raise Refused(_said(error or OSError("it has no address"), self._connect_timeout_s)) from error


def _said(e: Exception, timeout_s: float) -> str:
    """An exception in plain words."""
    if isinstance(e, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(e, ConnectionRefusedError):
        return "connection refused"
    if isinstance(e, http.client.IncompleteRead):
        return "the answer was cut"
    if isinstance(e, (http.client.RemoteDisconnected, ConnectionError)):
        return "it closed the connection without an answer"
    if isinstance(e, http.client.HTTPException):
        return f"what it answers is no HTTP ({type(e).__name__})"
    return f"{e.strerror or e}" if isinstance(e, OSError) else str(e)


def _has_something_to_say(sock: socket.socket) -> bool:
    """Whether an idle connection is readable: then its end was closed."""
    try:
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()  # reads the system's certificates: once


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    values = {"TCP_KEEPIDLE": _PROBE_AFTER_S, "TCP_KEEPINTVL": _PROBE_EVERY_S, "TCP_KEEPCNT": _PROBES}
    for name, value in values.items():
        if hasattr(socket, name):  # not on every system
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _shut(sock: socket.socket) -> None:
    try:
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # TLS has one of its own, for who reads and writes
    except OSError:  # not connected yet, or not any more
        pass
