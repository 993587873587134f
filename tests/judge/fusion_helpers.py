"""What the tests of the SandboxFusion pool share: a server process of our own, tasks, and scripted programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from fusion_server import read_answers

from nbrun.model import Task

DATA = Path(__file__).parent / "data"
ANSWERS = read_answers()
REQUESTS: dict[str, Any] = {r["name"]: r for r in json.loads((DATA / "sandboxfusion_requests.json").read_text())}

TESTS = [{"input": "1 2\n", "output": "3\n"}, {"input": "3 4\n", "output": "7\n"}]
SUM = {"id": "sum", "tests": TESTS}


class Service:
    """A running server process with `count` ports."""

    def __init__(self, count: int, *options: str) -> None:
        command = [sys.executable, str(Path(__file__).parent / "fusion_server.py"), str(count), *options]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self._process.stdout is not None
        started = json.loads(self._process.stdout.readline())
        self.ports: list[int] = started["ports"]
        self.urls = [f"http://127.0.0.1:{port}" for port in self.ports]
        self._control_port = started["control_port"]

    @property
    def pid(self) -> int:
        return self._process.pid

    def behave(self, mode: str = "ok", *ports: int, **more: Any) -> None:
        """Set how all ports behave from now on, or those at these places."""
        self._order({"mode": mode, "ports": [self.ports[p] for p in ports] if ports else self.ports, **more})

    def drop(self) -> None:
        """Close every connection, as a server does when its keep-alive time is over."""
        self._order({"drop": True, "ports": self.ports})

    def saw(self, port: int) -> dict[str, Any]:
        """Return what a port saw: its requests, the most at once, those that were cut."""
        seen: dict[str, Any] = self._order({"report": True, "ports": [self.ports[port]]})[str(self.ports[port])]
        return seen

    def requests(self) -> list[dict[str, Any]]:
        """Return the bodies of all requests for judging, of all ports."""
        return [
            seen["body"]
            for port in self._order({"report": True, "ports": self.ports}).values()
            for seen in port["seen"]
        ]

    def signal_group(self, number: int) -> None:
        """Send a signal to the server and to the programs that it runs; return when the server has ended."""
        os.killpg(self.pid, number)
        self._process.wait(60)

    def close(self) -> None:
        """End the process."""
        self._process.communicate("")

    def _order(self, order: dict[str, Any]) -> Any:
        url = f"http://127.0.0.1:{self._control_port}/_control"
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(order).encode()), timeout=60) as answer:
            return json.loads(answer.read())


def scripted(language: str = "PYTHON3", **script: Any) -> dict[str, str]:
    """Return a solution that the server plays (see fusion_server.py)."""
    return {"language": language, "solution": f"#script {json.dumps(script)}\n"}


def task(item: Any, problem: Any = SUM, **more: Any) -> Task:
    """Return a task as a worker gets it."""
    return Task(str(problem["id"]), "solution", 0, item, problem, **more)


def replayed(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the item and the problem that make a request of the real server's fixtures."""
    body = REQUESTS[name]["body"]
    names = {"python": "PYTHON3", "cpp": "CPP", "java": "JAVA", "go": "GO"}
    if REQUESTS[name]["path"] == "/run_code":
        tests = [{"input": body.get("stdin") or "", "output": "?"}]
        return {"language": names[body["language"]], "solution": body["code"]}, {"id": name, "tests": tests}
    config = body["config"]
    source = body["completion"].split("\n", 1)[1].rsplit("```", 1)[0] if "```" in body["completion"] else ""
    tests = [{"input": t["input"]["stdin"], "output": t["output"]["stdout"]} for t in config["provided_data"]["test"]]
    return {"language": names[config["language"]], "solution": source}, {"id": name, "tests": tests}
