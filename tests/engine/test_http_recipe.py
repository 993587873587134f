"""The documented recipe for HTTP services, against a real server that limits requests: few of them are refused."""

from __future__ import annotations

import asyncio
import email.utils
import http.client
import json
import re
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import nbrun
from tests.waiting import patience

PAGE = Path(__file__).parents[2] / "nbrun" / "docs" / "tasks.md"
REQUESTS, LIMIT, LATENCY_S = 2400, 400, 0.02


class Server:
    """Takes LIMIT requests a second and refuses the others with 429 and Retry-After, in seconds or as a date."""

    def __init__(self, as_date: bool) -> None:
        self.as_date = as_date
        self.answered = self.refused = 0
        self._window = self._taken = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="server", daemon=True)
        self._thread.start()
        assert self._ready.wait(60)

    def _serve(self) -> None:
        async def begin() -> None:
            self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0, backlog=256)
            self.port = self._server.sockets[0].getsockname()[1]
            self._ready.set()

        self._loop.create_task(begin())
        self._loop.run_forever()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(await self._answer())
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self) -> bytes:
        now = time.time()
        if int(now) != self._window:
            self._window, self._taken = int(now), 0
        self._taken += 1
        self.answered += 1
        if self._taken > LIMIT:
            self.refused += 1
            wait = email.utils.formatdate(self._window + 1, usegmt=True) if self.as_date else "1"
            return b"HTTP/1.1 429 Slow\r\nContent-Length: 2\r\nRetry-After: %b\r\n\r\n{}" % wait.encode()
        await asyncio.sleep(LATENCY_S)
        return b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{"n": 1}'


@pytest.fixture
def recipe() -> dict[str, Any]:
    """What the section of the page defines."""
    code = re.search(r"## Services that limit requests.*?```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    assert code is not None
    names: dict[str, Any] = {"nbrun": nbrun}
    exec(code[1], names)
    return names


@pytest.fixture(
    params=[
        pytest.param(False, id="seconds", marks=pytest.mark.long),  # test_start_gate.py has a quicker one for threads
        pytest.param(True, id="a date"),
    ]
)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(request.param)
    yield server
    server.close()


class Answer:
    """What httpx and requests have in common, as far as the recipe needs it."""

    def __init__(self, status: int, headers: Any, body: bytes = b"{}") -> None:
        self.status_code, self.headers, self.body = status, headers, body

    def raise_for_status(self) -> None:
        if self.status_code >= 400:
            raise OSError(HTTPStatus(self.status_code).phrase)

    def json(self) -> Any:
        return json.loads(self.body)


def test_of_all_requests_under_five_percent_are_refused(
    recipe: dict[str, Any], server: Server, tmp_path: Path
) -> None:  # fmt: skip
    """64 in flight: threads where Retry-After comes in seconds, coroutines where it is a date."""
    local = threading.local()

    def ask(task: nbrun.Task) -> Any:
        connection = getattr(local, "connection", None)
        if connection is None:
            connection = local.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", "/")
        response = connection.getresponse()
        body = response.read()
        return recipe["check"](Answer(response.status, response.headers, body)).json()

    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(url: str, json: Any) -> Answer:
        reader, writer = free.pop() if free else await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(headers["Content-Length"]))
        free.append((reader, writer))
        return Answer(int(head.split()[1]), headers, body)

    recipe |= {"client": SimpleNamespace(post=post), "url": "/"}
    samples = [{"id": f"s{i}", "prompts": list(range(100))} for i in range(REQUESTS // 100)]
    fn = recipe["ask"] if server.as_date else ask
    progress = nbrun.start(samples, fn, tmp_path / "r", groups=["prompt"], workers=64, view=None).wait(100)
    assert (progress.done, progress.errors) == (REQUESTS, 0)
    assert server.answered == REQUESTS + server.refused
    assert 0 < server.refused < 0.05 * server.answered, (server.refused, server.answered)
    assert progress.elapsed_s < patience(2.5 * REQUESTS / LIMIT)


def test_other_errors_are_exceptions(recipe: dict[str, Any]) -> None:
    with pytest.raises(OSError, match="Not Found"):
        recipe["check"](Answer(404, {}))
    assert recipe["check"](Answer(200, {})).status_code == 200


@pytest.mark.parametrize("status", [429, 503])
def test_when_to_come_back(status: int, recipe: dict[str, Any]) -> None:
    def asked(headers: dict[str, str]) -> nbrun.Retry:
        with pytest.raises(nbrun.Retry, match=f"HTTP {status}") as caught:
            recipe["check"](Answer(status, headers))
        assert caught.value.pause_all
        return caught.value

    assert asked({"Retry-After": "7"}).after_s == 7
    assert asked({"Retry-After": "0.5"}).after_s == 0.5
    assert asked({}).after_s == 1
    assert 28 < asked({"Retry-After": email.utils.formatdate(time.time() + 30, usegmt=True)}).after_s <= 30
    assert asked({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}).after_s == 0
