"""768 SandboxFusion endpoints on loopback, one request in flight at each, 1 s a request: the pool in a run, and what
the HTTP clients that could carry it cost for the same requests.

One server process (tests/judge/fusion_server.py) serves all ports. Every measurement runs in a process of its own, so
that CPU time and memory are its alone.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.benchmarks.registry import benchmark, in_child, least, most, peer

ENDPOINTS, SECONDS = 768, 1.0
#: Requests one after the other at each endpoint: in the run, start and end included, and of a client alone.
ROUNDS_OF_THE_RUN, ROUNDS = 30, 10
_TESTS = [{"input": "1 2\n" * 50, "output": "3\n" * 50}] * 3
_SOURCE = "#script {}\n" + "# a line of some source\n" * 40
CLIENTS = ("http_client", "urllib3", "httpx", "requests")


@benchmark(
    "fusion",
    least("run.of_ideal_rate", 0.95, "768 SandboxFusion endpoints, 1 s a request, of the ideal rate"),
    most("run.cores", 1, "CPU time of the kernel meanwhile", " cores"),
    most("run.peak_mb", 400, "memory of the kernel meanwhile", " MB"),
    peer("http_client.cpu_us_a_request", "CPU a request, http.client alone", " µs"),
    peer("urllib3.cpu_us_a_request", "CPU a request, urllib3 alone", " µs"),
    peer("httpx.cpu_us_a_request", "CPU a request, httpx alone", " µs"),
    peer("requests.cpu_us_a_request", "CPU a request, requests alone", " µs"),
)
def main() -> dict[str, Any]:
    """The figures."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "judge"))
    from fusion_helpers import Service

    figures: dict[str, Any] = {"endpoints": ENDPOINTS, "seconds_a_request": SECONDS, "rounds": ROUNDS_OF_THE_RUN}
    figures["load_average"] = round(os.getloadavg()[0], 1)  # of the machine, before
    for name in ("run", *CLIENTS):
        if name in CLIENTS[1:] and importlib.util.find_spec(name) is None:
            continue
        service = Service(ENDPOINTS)
        try:
            service.behave("canned", seconds=SECONDS)
            figures[name] = in_child(measure, name, service.urls)
        finally:
            service.close()
    return figures


def _run(urls: list[str]) -> None:
    """The pool, under a run that saves everything."""
    import nbrun
    from nbrun.judge import SandboxFusion

    items = [{"language": "PYTHON3", "solution": f"{_SOURCE}# {n}\n"} for n in range(ENDPOINTS)]
    samples = [{"id": f"p{r}", "tests": _TESTS, "solutions": items} for r in range(ROUNDS_OF_THE_RUN)]
    with tempfile.TemporaryDirectory() as folder:
        run = nbrun.start(samples, SandboxFusion(urls), folder, workers=len(urls), view=None)
        progress = run.wait()
    assert (progress.done, progress.errors) == (len(urls) * ROUNDS_OF_THE_RUN, 0)


def _bare(make: Callable[[str], Callable[[bytes], bytes]]) -> Callable[[list[str]], None]:
    """A client alone: a thread for each endpoint, a connection each, kept alive."""

    def call(urls: list[str]) -> None:
        test = [{"input": {"stdin": t["input"]}, "output": {"stdout": t["output"]}} for t in _TESTS]
        config = {"language": "python", "provided_data": {"test": test}, "extra": {}}
        body = json.dumps({"id": "p", "completion": f"```python\n{_SOURCE}\n```", "config": config}).encode()

        def one(url: str) -> None:
            ask = make(url)
            for _ in range(ROUNDS):
                assert json.loads(ask(body))["accepted"] is True

        threads = [threading.Thread(target=one, args=(url,)) for url in urls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return call


_HEADERS = {"Content-Type": "application/json"}


def _http_client(url: str) -> Callable[[bytes], bytes]:
    connection = HTTPConnection(url.removeprefix("http://"), timeout=60)

    def ask(body: bytes) -> bytes:
        connection.request("POST", "/submit", body, _HEADERS)
        return connection.getresponse().read()

    return ask


def _urllib3(url: str) -> Callable[[bytes], bytes]:
    import urllib3

    pool = urllib3.connection_from_url(url, timeout=60)
    return lambda body: pool.request("POST", "/submit", body=body, headers=_HEADERS).data


_SHARED = ssl.create_default_context()  # httpx would make one for each of its clients


def _httpx(url: str) -> Callable[[bytes], bytes]:
    import httpx

    client = httpx.Client(base_url=url, timeout=60, verify=_SHARED)
    return lambda body: client.post("/submit", content=body, headers=_HEADERS).content


def _requests(url: str) -> Callable[[bytes], bytes]:
    import requests

    session = requests.Session()
    return lambda body: session.post(f"{url}/submit", data=body, headers=_HEADERS).content


def measure(name: str, urls: list[str]) -> dict[str, float]:
    """Runs one of them in this process."""
    calls = {"run": _run, "http_client": _bare(_http_client), "urllib3": _bare(_urllib3), "httpx": _bare(_httpx),
             "requests": _bare(_requests)}  # fmt: skip
    began, cpu = time.perf_counter(), time.process_time()
    calls[name](urls)
    took, used = time.perf_counter() - began, time.process_time() - cpu
    rounds = ROUNDS_OF_THE_RUN if name == "run" else ROUNDS
    requests = len(urls) * rounds
    return {
        "of_ideal_rate": round(rounds * SECONDS / took, 4),
        "cores": round(used / took, 3),
        "cpu_us_a_request": round(used / requests * 1e6, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
