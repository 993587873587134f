"""What a user gives as endpoints -> addresses. Pure functions, no I/O.

Understood are `http://host:8080`, `host:8080`, and the older program's `http://host:8080/submit`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from nbrun.errors import InputError

_HEADER = re.compile(r"[\w!#$%&'*+.^`|~-]+: [\t\x20-\x7e\xa0-\xff]*")
#: Paths of the service itself: they are not part of where it stands.
_SERVICE = ("/submit", "/run_code", "/v1/ping")


class Address(NamedTuple):
    """Where an endpoint is; `name` is how it is called in messages, in health() and in results."""

    name: str
    host: str
    port: int
    path: str  # of a gateway, before the service's own; often empty
    is_secure: bool

    @property
    def host_and_port(self) -> str:
        """As a request tells it."""
        return self.name.split("/")[2]


def read_endpoints(endpoints: Any) -> tuple[Address, ...]:
    """One URL, or several, -> addresses; the same one twice counts once.

    Raises:
        InputError: something is no URL of a server; the message shows it.

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


def _address(url: Any) -> Address:
    if not isinstance(url, str):
        raise InputError(f"SandboxFusion: the endpoint {url!r} is a {type(url).__name__}; give a URL as text.")
    text = url.strip()
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port, host = parts.port, parts.hostname
    except ValueError as e:
        raise _wrong(url, str(e)) from None
    if parts.scheme not in ("http", "https"):
        raise _wrong(url, f"{parts.scheme}:// is not spoken here")
    if not host or any(c.isspace() for c in text):
        raise _wrong(url, "it names no host" if not host else "it holds a space")
    if not text.isascii():
        raise _wrong(url, "it holds letters beyond ASCII; write the host as xn--…, the path with %xx")
    if parts.username is not None or parts.query or parts.fragment:
        raise _wrong(url, "it holds more than a host, a port and a path; give names and passwords in headers=")
    path = parts.path.rstrip("/")
    for own in _SERVICE:
        path = path.removesuffix(own)
    is_secure = parts.scheme == "https"
    usual = 443 if is_secure else 80
    shown = f"[{host}]" if ":" in host else host
    name = f"{parts.scheme}://{shown}{f':{port}' if port not in (None, usual) else ''}{path}"
    return Address(name, host, port or usual, path, is_secure)


def read_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Headers that go along with each request.

    Raises:
        InputError: one would break the request.
    """
    read = dict(headers or {})
    for name, value in read.items():
        is_text = isinstance(name, str) and isinstance(value, str)
        if not is_text or not name.isascii() or not _HEADER.fullmatch(f"{name}: {value}"):
            raise InputError(f"SandboxFusion: headers holds {name!r}, which can't be sent; give one line of text each.")
    return read


def _wrong(url: str, why: str) -> InputError:
    return InputError(f'SandboxFusion: the endpoint {url!r} is no URL of a server: {why}. One is "http://host:8080".')
