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


class Stand:
    """A running server process with `count` ports."""

    def __init__(self, count: int, *options: str) -> None:
        command = [sys.executable, str(Path(__file__).parent / "fusion_server.py"), str(count), *options]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self._process.stdout is not None
        told = json.loads(self._process.stdout.readline())
        self.ports: list[int] = told["ports"]
        self.urls = [f"http://127.0.0.1:{port}" for port in self.ports]
        self._tell = told["tell"]

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, mode: str = "ok", *ports: int, **more: Any) -> None:
        """All of the ports, or these (by their place), shall behave like that from now on."""
        self._ask({"mode": mode, "ports": [self.ports[p] for p in ports] if ports else self.ports, **more})

    def drop(self) -> None:
        """Closes every connection, as a server does whose keep-alive time is over."""
        self._ask({"drop": True, "ports": self.ports})

    def saw(self, port: int) -> dict[str, Any]:
        """What the port saw: requests, the most at once, cut ones."""
        seen: dict[str, Any] = self._ask({"tell": True, "ports": [self.ports[port]]})[str(self.ports[port])]
        return seen

    def requests(self) -> list[dict[str, Any]]:
        """The bodies of all requests for judging that any port saw."""
        return [
            seen["body"] for told in self._ask({"tell": True, "ports": self.ports}).values() for seen in told["seen"]
        ]

    def signal_group(self, number: int) -> None:
        """Send a signal to the server and to the programs that it runs; return when the server has ended."""
        os.killpg(self.pid, number)
        self._process.wait(30)

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate("")

    def _ask(self, wish: dict[str, Any]) -> Any:
        url = f"http://127.0.0.1:{self._tell}/_tell"
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(wish).encode()), timeout=30) as answer:
            return json.loads(answer.read())


def scripted(language: str = "PYTHON3", **script: Any) -> dict[str, str]:
    """A solution that the server plays (see fusion_server.py)."""
    return {"language": language, "solution": f"#script {json.dumps(script)}\n"}


def task(item: Any, problem: Any = SUM, **more: Any) -> Task:
    """A task as the engine would hand it over."""
    return Task(str(problem["id"]), "solution", 0, item, problem, **more)


def replayed(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A request of a real server's fixtures -> the item and the problem that make it."""
    body = REQUESTS[name]["body"]
    names = {"python": "PYTHON3", "cpp": "CPP", "java": "JAVA", "go": "GO"}
    if REQUESTS[name]["path"] == "/run_code":
        tests = [{"input": body.get("stdin") or "", "output": "?"}]
        return {"language": names[body["language"]], "solution": body["code"]}, {"id": name, "tests": tests}
    config = body["config"]
    source = body["completion"].split("\n", 1)[1].rsplit("```", 1)[0] if "```" in body["completion"] else ""
    tests = [{"input": t["input"]["stdin"], "output": t["output"]["stdout"]} for t in config["provided_data"]["test"]]
    return {"language": names[config["language"]], "solution": source}, {"id": name, "tests": tests}
