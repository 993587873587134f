"""The addresses of endpoints, and one HTTP connection to one of them: kept alive, bounded in time, and cancellable.

One worker thread at a time uses a connection. `Call.cancel` may be called from any thread and ends a request by
`socket.shutdown`. The standard library's http.client reads the responses; docs/decisions/http_client.md explains why no
other client is used.

Users may write an endpoint as `http://host:8080`, `host:8080`, or the older program's `http://host:8080/submit`.
"""

from __future__ import annotations

import errno
import functools
import http.client
import os
import re
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from nbrun.errors import InputError, JudgeError

_PORTS = {"http": 80, "https": 443}
_HEADER = re.compile(r"[A-Za-z0-9_!#$%&'*+.^`|~-]+: [\t\x20-\x7e\xa0-\xff]*")
#: Paths of the service itself, which don't belong to an endpoint's address.
_SERVICE_PATHS = ("/submit", "/run_code", "/v1/ping")
#: A longer response is refused, since a broken server may send endlessly.
LONGEST_RESPONSE = 1 << 29
_CHUNK = 1 << 18
_MAX_IDLE_S = 60.0  # a connection that was idle for longer is replaced
_SURELY_OPEN_S = 2.0  # servers keep an idle connection open for longer than this
_CLOCK_S = 0.02  # the kernel's time-out may appear to come this much too early
_PROBE_AFTER_S, _PROBE_EVERY_S, _PROBES = 20, 10, 3  # TCP keep-alive, which notices machines that have vanished


#: Kind of exception -> what is said of it; the first that fits counts.
_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (ConnectionRefusedError, "connection refused"),
    (http.client.IncompleteRead, "the answer was cut"),
    (ConnectionError, "it closed the connection without an answer"),  # http.client.RemoteDisconnected too
    (http.client.HTTPException, "what it answers is no HTTP ({kind})"),
)


class Unreachable(Exception):
    """The endpoint never received the request."""


class RequestLost(Exception):
    """The endpoint received the request, but no complete response came back."""


class TooManyOpenFiles(Exception):
    """This process can't open another connection, which isn't an endpoint's fault."""


# ---- addresses


class Address(NamedTuple):
    """The address of an endpoint.

    Attributes:
        name: its name in messages, `health()` and results.
        path: the path of a gateway, before the service's own path; often empty.
    """

    name: str
    host: str
    port: int
    path: str
    is_secure: bool

    @property
    def host_and_port(self) -> str:
        """The value of a request's `Host` header."""
        return self.name.split("/")[2]


def read_endpoints(endpoints: object) -> tuple[Address, ...]:
    """Return the addresses of one URL or several; an endpoint that is given twice counts once.

    Raises:
        InputError: a value isn't the URL of a server; the message shows it.

    Example:
        >>> [a.name for a in read_endpoints(["http://10.0.0.1:8080/submit", "10.0.0.1:8080", "https://h/box/"])]
        ['http://10.0.0.1:8080', 'https://h/box']
    """
    given = [endpoints] if isinstance(endpoints, str) else endpoints
    if isinstance(given, (bytes, dict)) or not isinstance(given, Iterable):
        raise InputError(f"SandboxFusion: endpoints is a {type(endpoints).__name__}; give a list of URLs.")
    addresses = dict.fromkeys(_address(url) for url in given)
    if not addresses:
        raise InputError('SandboxFusion: there are no endpoints; give at least one, such as "http://localhost:8080".')
    return tuple(addresses)


def _address(url: object) -> Address:
    if not isinstance(url, str):
        raise InputError(f"SandboxFusion: the endpoint {url!r} is a {type(url).__name__}; give a URL as text.")
    text = url.strip()
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError as e:
        raise _not_a_url(url, str(e)) from None
    for why, applies in _faults(text, parts).items():
        if applies:
            raise _not_a_url(url, why)
    return _address_of(parts, port)


def _address_of(parts: SplitResult, port: int | None) -> Address:
    host, path, usual = parts.hostname or "", parts.path.rstrip("/"), _PORTS[parts.scheme]
    for own in _SERVICE_PATHS:
        path = path.removesuffix(own)
    shown = f"[{host}]" if ":" in host else host
    if port not in (None, usual):
        shown += f":{port}"
    return Address(f"{parts.scheme}://{shown}{path}", host, port or usual, path, parts.scheme == "https")


def _faults(text: str, parts: SplitResult) -> dict[str, object]:
    """Return what may be wrong with the URL of an endpoint, and whether it is."""
    has_more = parts.username is not None or parts.query or parts.fragment
    return {
        f"the scheme {parts.scheme}:// is not supported": parts.scheme not in _PORTS,
        "it names no host": not parts.hostname,
        "it holds a space": len(text.split()) > 1,
        "it holds letters beyond ASCII; write the host as xn--…, the path with %xx": not text.isascii(),
        "it holds more than a host, a port and a path; give names and passwords in headers=": has_more,
    }


def _not_a_url(url: str, why: str) -> InputError:
    return InputError(f'SandboxFusion: the endpoint {url!r} is no URL of a server: {why}. One is "http://host:8080".')


def read_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return the headers that are sent with each request.

    Raises:
        InputError: one of them would break the request.
    """
    read = dict(headers or {})
    for name, value in read.items():
        is_text = isinstance(name, str) and isinstance(value, str)
        if not is_text or not _HEADER.fullmatch(f"{name}: {value}"):
            raise InputError(f"SandboxFusion: headers holds {name!r}, which can't be sent; give one line of text each.")
    return read


# ---- connections


class Response(NamedTuple):
    """An endpoint's complete response."""

    status: int
    body: bytes


class Call:
    """One call of the judge, whose current request another thread can cancel.

    Threads: `cancel` may be called from any thread; only the worker that makes the call uses the rest.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects both attributes below
        self._socket: socket.socket | None = None
        self.is_cancelled = False

    def cancel(self) -> None:
        """Shut the socket of the current request. Closing it would not wake a thread that reads from it."""
        with self._lock:
            self.is_cancelled = True
            if self._socket is not None:
                _shut(self._socket)

    def hold(self, sock: socket.socket | None) -> None:
        """Set the socket that `cancel` shuts; shut it at once if the call was cancelled already."""
        with self._lock:
            self._socket = sock
            if self.is_cancelled and sock is not None:
                _shut(sock)

    def check(self) -> None:
        """Raise JudgeError if the call was cancelled."""
        if self.is_cancelled:
            raise JudgeError("cancelled while it was judged: nothing is known of the solution.")


class Connection:
    """A connection to one endpoint. The first request opens it, later ones use it again.

    Args:
        connect_timeout_s: how long opening it may take.
    """

    def __init__(self, address: Address, connect_timeout_s: float) -> None:
        self._address, self._connect_timeout_s = address, connect_timeout_s
        self._socket: socket.socket | None = None
        self._used_at = 0.0
        self._died_at_once = False
        self._timeout_s = -1.0  # the time-out that is set on the socket

    def close(self) -> None:
        """Close the connection; a later request opens it again."""
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    def send(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], timeout_s: float, call: Call
    ) -> Response:
        """Send a request and return the complete response.

        Raises:
            Unreachable: no connection could be opened.
            RequestLost: the response didn't arrive in time, or was truncated.
            JudgeError: the call was cancelled.
        """
        a = self._address
        lines = [f"{method} {a.path}{path} HTTP/1.1", f"Host: {a.host_and_port}", f"Content-Length: {len(body)}"]
        head = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "\r\n"])
        request = head.encode("latin-1") + body
        was_open = self._is_fresh()
        try:
            return self._exchange(method, request, timeout_s, call)
        except RequestLost:
            if not was_open or call.is_cancelled or not self._died_at_once:
                raise
        return self._exchange(method, request, timeout_s, call)  # the server had just closed the idle connection

    def _is_fresh(self) -> bool:
        """Return whether an open connection can be used; close one that can't."""
        sock = self._socket
        if sock is None:
            return False
        idle_s = time.monotonic() - self._used_at
        if idle_s > _MAX_IDLE_S or (idle_s > _SURELY_OPEN_S and _is_readable(sock)):
            self.close()
            return False
        return True

    def _exchange(self, method: str, request: bytes, timeout_s: float, call: Call) -> Response:
        sock = self._socket = self._socket or self._connect(call)
        deadline = time.monotonic() + timeout_s
        call.hold(sock)
        self._died_at_once = False
        response = http.client.HTTPResponse(sock, method=method)
        try:
            self._set_timeout(sock, timeout_s)
            sock.sendall(request)
            response.begin()
            answer = Response(response.status, self._read_body(response, sock, deadline))
        except (http.client.HTTPException, OSError, ValueError) as e:
            self.close()
            call.check()
            is_late = time.monotonic() >= deadline - _CLOCK_S
            self._died_at_once = not is_late and isinstance(e, (http.client.RemoteDisconnected, ConnectionError))
            raise RequestLost(_in_words(TimeoutError() if is_late else e, timeout_s)) from e
        finally:
            response.close()
            call.hold(None)
        self._used_at = time.monotonic()
        if response.will_close:
            self.close()
        call.check()
        return answer

    def _set_timeout(self, sock: socket.socket, timeout_s: float) -> None:
        """Set the kernel's time-out: Python's own would poll before each call, and each poll releases the GIL.

        TLS needs Python's time-out, since it tries again after the kernel's.
        """
        if self._address.is_secure:
            sock.settimeout(timeout_s)
        elif timeout_s != self._timeout_s:
            whole = int(timeout_s)
            value = struct.pack("ll", whole, int((timeout_s - whole) * 1e6) or (0 if whole else 1))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
            self._timeout_s = timeout_s

    def _read_body(self, response: http.client.HTTPResponse, sock: socket.socket, deadline: float) -> bytes:
        """Return the whole body; raise an exception if it is truncated, late, or longer than `LONGEST_RESPONSE`."""
        pieces: list[bytes] = []
        size = 0
        while response.length is None or response.length > 0:
            if pieces:  # most bodies arrive in one piece, for which the time-out is already set
                self._set_timeout(sock, _left_s(deadline))
            piece = response.read1(_CHUNK)  # doesn't wait for a full chunk, which may never come
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
            if size > LONGEST_RESPONSE:
                raise ValueError(f"the answer is longer than {LONGEST_RESPONSE >> 20} MiB")
        if response.length:  # Content-Length announced more
            raise http.client.IncompleteRead(b"", response.length)
        return b"".join(pieces)

    def _connect(self, call: Call) -> socket.socket:
        a = self._address
        error = OSError("it has no address")
        try:
            places = socket.getaddrinfo(a.host, a.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as e:
            raise Unreachable(f"the host {a.host!r} is not known ({e})") from e
        for family, kind, protocol, _, where in places:
            call.check()
            try:
                return self._open(call, where, family, kind, protocol)
            except OSError as e:
                if e.errno in (errno.EMFILE, errno.ENFILE):
                    raise TooManyOpenFiles(f"{e.strerror} ({len(os.listdir('/dev/fd'))} are open)") from e
                error = e
        call.check()
        raise Unreachable(_in_words(error, self._connect_timeout_s)) from error

    def _open(self, call: Call, where: Any, *kind: int) -> socket.socket:
        """Return a socket of this kind that is connected to one address of the host; raise OSError if that fails."""
        sock = socket.socket(*kind)
        try:
            call.hold(sock)
            sock.settimeout(self._connect_timeout_s)
            sock.connect(where)
            _tune(sock)
            sock.settimeout(None)
            self._timeout_s = -1.0
            return _tls().wrap_socket(sock, server_hostname=self._address.host) if self._address.is_secure else sock
        except OSError:
            sock.close()
            raise
        finally:
            call.hold(None)


def _left_s(deadline: float) -> float:
    """Return the seconds until a time of the monotonic clock; raise TimeoutError if there are none."""
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _in_words(e: Exception, timeout_s: float) -> str:
    """Describe an exception for a message."""
    if isinstance(e, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    words = next((words for kind, words in _WORDS if isinstance(e, kind)), "")
    return words.format(kind=type(e).__name__) or str(getattr(e, "strerror", None) or e)


def _is_readable(sock: socket.socket) -> bool:
    """Return whether an idle connection is readable, which means that the other end has closed it."""
    try:
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()  # cached, because it reads the system's certificates


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    values = {"TCP_KEEPIDLE": _PROBE_AFTER_S, "TCP_KEEPINTVL": _PROBE_EVERY_S, "TCP_KEEPCNT": _PROBES}
    for name, value in values.items():
        if hasattr(socket, name):  # not every system has all of them
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _shut(sock: socket.socket) -> None:
    try:
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # a TLS socket's own method would interfere with its reader
    except OSError:  # it isn't connected yet, or no longer
        pass
