"""A server process that speaks SandboxFusion's protocol on loopback, for tests and benchmarks: many ports, one process.

It replays the answers of a real server (`data/`) to the requests that got them, plays scripted programs, and misbehaves
on demand. `python fusion_server.py COUNT [FIRST_PORT]` prints a line of JSON: the ports, and the port that takes
orders. It ends with its standard input.

A scripted program is a source whose first line is `#script` and a JSON object:

    needs_s       CPU seconds that it takes; as many programs as run at once slow each other down on `cores` cores
    output        what it writes in the end, by input ("" for any); else the tests' own outputs, always right
    early         what it had written, as a share of its output, when its time was up
    stderr, return_code
    compile_s     what its compiler takes
    wait_s        how long it really waits

With `--real` it runs Python programs that are no scripts, as processes of its own group. When it is asked to end by
SIGINT or SIGTERM it takes no more connections, answers the requests that it has, and ends, as a real server does.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
_FENCE = re.compile(r"```([^\n]*)\n(.*?)\n\s*```", re.DOTALL)
LANGUAGES = ("python", "cpp", "nodejs", "go", "java", "php", "csharp", "bash", "typescript", "sql", "rust", "lua")


@dataclass
class Port:
    """One server: how it behaves, and what it saw."""

    number: int
    mode: str = "ok"
    seconds: float = 0.0
    cores: int = 1
    count: int = 0  # of requests that are served before the mode begins
    server: asyncio.Server | None = None
    seen: list[dict[str, Any]] = field(default_factory=list)
    cut_by_client: int = 0
    in_flight: int = 0
    peak: int = 0
    running: int = 0
    connections: int = 0
    headers: dict[str, str] = field(default_factory=dict)  # of the last request
    open: set[asyncio.StreamWriter] = field(default_factory=set)


class FakeService:
    """All ports of the process."""

    def __init__(self, replies: list[dict[str, Any]], keeps: bool, real: bool = False) -> None:
        self.real, self.is_ending = real, False
        self.ports: dict[int, Port] = {}
        self.control_port = 0  # takes orders, and no requests
        self.canned = b""  # the answer of mode "canned": the first one, for all
        self._replies = {_key(r["path"], r["body"]): r for r in replies}
        self._keeps = keeps

    async def listen(self, number: int) -> Port:
        server = await asyncio.start_server(self._connected, "127.0.0.1", number, limit=1 << 26, backlog=2048)
        number = server.sockets[0].getsockname()[1]
        port = self.ports.setdefault(number, Port(number))
        port.server = server
        return port

    # ---- HTTP

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = self.ports[writer.get_extra_info("sockname")[1]]
        port.connections += 1
        port.open.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                method, path, _ = head.split("\r\n", 1)[0].split(" ", 2)
                length = re.search(r"(?i)^content-length: *(\d+)", head, re.MULTILINE)
                body = await reader.readexactly(int(length[1])) if length else b""
                port.headers = dict(_header(line) for line in head.split("\r\n")[1:-2])
                if not await self._serve(port, method, path, body, reader, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            port.open.discard(writer)
            writer.close()

    async def _serve(
        self,
        port: Port,
        method: str,
        path: str,
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        if path == "/v1/ping":
            if port.mode == "hang":
                await asyncio.sleep(3600)
            return await _send(writer, 404 if port.mode == "foreign" else 200, "pong")
        if path == "/_control":
            return await _send(writer, 200, await self._control(json.loads(body)))
        port.in_flight += 1
        port.peak = max(port.peak, port.in_flight)
        try:
            return await self._judge(port, path, body, reader, writer) and not self.is_ending
        finally:
            port.in_flight -= 1

    async def _control(self, order: dict[str, Any]) -> Any:
        """Carry out an order of the test: set the mode of ports, or report what they saw."""
        chosen = [self.ports[n] for n in order.get("ports", self.ports) if n != self.control_port]
        for port in chosen:
            if "mode" in order:
                port.mode, port.seconds = order["mode"], order.get("seconds", 0.0)
                port.count, port.cores = order.get("count", 0), order.get("cores", port.cores)
                is_up = port.server is not None
                if port.mode == "refuse" and is_up:
                    assert port.server is not None
                    port.server.close()
                    port.server = None
                    for writer in list(port.open):
                        writer.transport.abort()
                elif port.mode != "refuse" and not is_up:
                    await self.listen(port.number)
            if order.get("drop"):
                for writer in list(port.open):
                    writer.transport.abort()
        if not order.get("report"):
            return None
        return {
            p.number: {"seen": p.seen, "cut_by_client": p.cut_by_client, "peak": p.peak, "connections": p.connections,
                       "in_flight": p.in_flight}
            for p in chosen
        }  # fmt: skip

    # ---- answers

    async def _judge(  # noqa: C901 - the ways in which a server can fail, one after the other
        self, port: Port, path: str, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if port.mode == "canned":  # for benchmarks: many servers' work in one process
            if not self.canned:
                self.canned = json.dumps((await self._answer(port, path, json.loads(body)))[1]).encode()
            await asyncio.sleep(port.seconds)
            return await _send(writer, 200, None, raw=self.canned)
        if self._keeps:
            port.seen.append({"path": path, "body": json.loads(body), "headers": port.headers})
        mode = port.mode
        if mode == "hang after":  # only the first `count` requests are served
            mode = "ok" if port.count else "hang"
            port.count -= port.count > 0
        if mode == "hang":
            try:
                await asyncio.wait_for(reader.read(1), 3600)
                port.cut_by_client += 1
            except ConnectionError:
                port.cut_by_client += 1
            return False
        if mode == "reset":
            writer.transport.abort()
            return False
        if mode == "500":
            return await _send(writer, 500, {"detail": "Failed to check stdio test case: "})
        if mode == "422":
            detail = [{"type": "missing", "loc": ["body", "code"], "msg": "Field required", "input": {}}]
            return await _send(writer, 422, {"detail": detail})
        if mode == "foreign":
            return await _send(writer, 404, "<html>nginx</html>", kind="text/html")
        if mode == "garbage":
            return await _send(writer, 200, None, raw=b'{"accepted": tru')
        if mode == "empty":
            return await _send(writer, 200, {"accepted": False, "tests": []})
        if mode == "no http":
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
            await writer.drain()
            return False
        if mode == "slow":
            await asyncio.sleep(port.seconds)
        status, answer = await self._answer(port, path, json.loads(body))
        if mode == "cut":
            raw = json.dumps(answer).encode()
            return await _send(writer, status, None, raw=raw, send=len(raw) // 2)
        if mode == "drip":  # a byte now and then, for ever
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            for _ in range(100_000):
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        if mode == "chunked":
            raw = json.dumps(answer).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            for at in range(0, len(raw), 100):
                piece = raw[at : at + 100]
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            writer.write(b"0\r\n\r\n")
            await writer.drain()
            return True
        return await _send(writer, status, answer)

    async def _answer(self, port: Port, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        known = self._replies.get(_key(path, body))
        if known is not None:
            return known["status"], known["answer"]
        if path == "/submit":
            return await self._submit(port, body)
        if path != "/run_code":
            return 404, {"detail": "Not Found"}
        if "code" not in body:
            detail = [{"type": "missing", "loc": ["body", "code"], "msg": "Field required", "input": body}]
            return 422, {"detail": detail}
        limits = (body.get("run_timeout", 10), body.get("compile_timeout", 10))
        run = await self._run(port, body["code"], body["language"], body.get("stdin") or "", None, limits)
        return 200, run

    async def _submit(self, port: Port, body: dict[str, Any]) -> tuple[int, Any]:
        config = body["config"]
        tests = config["provided_data"]["test"]
        language = config["language"]
        code = _extract(body["completion"], config.get("custom_extract_logic"))
        limits = (config.get("run_timeout") or 10, config.get("compile_timeout") or 10)
        room = asyncio.Semaphore(3)

        async def one(test: dict[str, Any]) -> dict[str, Any]:
            async with room:
                expected = test["output"]["stdout"]
                run = await self._run(port, code, language, test["input"]["stdin"], expected, limits)
            passed = run["status"] == "Success" and run["run_result"]["stdout"].strip().lower() == (
                expected.strip().lower()
            )
            return {"passed": passed, "exec_info": run, "test_info": test}

        found = []
        waiting = [asyncio.ensure_future(one(test)) for test in tests]
        for task in waiting:
            found.append(await task)
            if not config.get("extra", {}).get("run_all_cases") and not found[-1]["passed"]:
                break
        for task in waiting:
            task.cancel()
        accepted = all(f["passed"] for f in found)
        answer = {"id": body["id"], "accepted": accepted, "extracted_code": code, "full_code": None}
        return 200, answer | {"test_code": None, "tests": found, "extracted_type": None, "extra": None}

    async def _run(
        self, port: Port, code: str, language: str, stdin: str, expected: str | None, limits: tuple[float, float]
    ) -> dict[str, Any]:
        missing = {"status": "Finished", "execution_time": 0.0, "return_code": 127, "stdout": "",
                   "stderr": f"/bin/bash: line 1: {language}: command not found\n"}  # fmt: skip
        if port.mode == "no runtime" or language not in LANGUAGES:
            if language in ("python", "bash"):
                return _run_record("Failed", None, missing)
            return _run_record("Failed", missing, None)
        if self.real and language == "python" and not code.startswith("#script"):
            return await _run_really(code, stdin)
        line, _, rest = code.partition("\n")
        script = json.loads(line.removeprefix("#script")) if line.startswith("#script") else {}
        port.running += 1
        try:
            await asyncio.sleep(script.get("wait_s", 0.0))
            slower = max(1.0, port.running / port.cores)
        finally:
            port.running -= 1
        compiled = None
        if language in ("cpp", "go", "java"):
            if script.get("compile_s", 0.0) * slower > limits[1]:
                return _run_record("Failed", _step("TimeLimitExceeded", limits[1], None, ""), None)
            compiled = _step("Finished", 0.1, 0, "")
        outputs = script.get("output", {})
        output = outputs.get(stdin, outputs.get("", expected if expected is not None else rest))
        needs_s = script.get("needs_s", 0.0) * slower
        if needs_s > limits[0]:
            early = output[: int(len(output) * script.get("early", 0.0))]
            late = _step("TimeLimitExceeded", limits[0], None, early, script.get("stderr", ""))
            return _run_record("Failed", compiled, late)
        code = script.get("return_code", 0)
        return _run_record(
            "Failed" if code else "Success",
            compiled,
            _step("Finished", needs_s, code, output, script.get("stderr", "")),
        )


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(": ")
    return name.lower(), value


def _step(status: str, seconds: float, code: int | None, stdout: str, stderr: str = "") -> dict[str, Any]:
    return {"status": status, "execution_time": seconds, "return_code": code, "stdout": stdout, "stderr": stderr}


def _run_record(status: str, compiled: Any, ran: Any) -> dict[str, Any]:
    return {
        "status": status, "message": "", "compile_result": compiled, "run_result": ran, "executor_pod_name": None,
        "files": {},
    }  # fmt: skip


def _extract(completion: str, custom: str | None) -> str:
    """The server's way: fenced blocks, unless custom logic submits one of a higher priority; else nothing."""
    if custom is not None:
        blocks: list[dict[str, Any]] = []
        exec(custom, {"completion": completion, "submit_code_blocks": blocks.extend, "CodeBlock": dict})
        return str(blocks[0]["code"])
    match = _FENCE.search(completion)
    return match[2] if match else ""


def read_answers() -> dict[str, Any]:
    """Return the recorded answers by the names of their requests."""
    text = (DATA / "sandboxfusion.json").read_text()
    return dict(json.loads(text, object_hook=lambda d: d["repeated"] * d["times"] if "repeated" in d else d))


def _key(path: str, body: Any) -> str:
    """What of a request decides on the answer: not the name of the data set, and hardly the limits."""
    if not isinstance(body, dict):
        body = [body]
    elif path == "/submit":
        body = [body["completion"].split(), body["config"].get("language"), body["config"].get("provided_data")]
    else:
        is_short = body.get("compile_timeout", 10) < 1
        body = [body.get("code"), body.get("language"), body.get("stdin") or "", is_short]
    return path + json.dumps(body, sort_keys=True)


async def _send(
    writer: asyncio.StreamWriter, status: int, value: Any, *, kind: str = "application/json", raw: bytes | None = None,
    send: int | None = None,
) -> bool:  # fmt: skip
    data = raw if raw is not None else value.encode() if kind == "text/html" else json.dumps(value).encode()
    writer.write(
        f"HTTP/1.1 {status} X\r\ncontent-length: {len(data)}\r\ncontent-type: {kind}\r\n\r\n".encode() + data[:send]
    )
    await writer.drain()
    return send is None


async def _run_really(code: str, stdin: str) -> dict[str, Any]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdin=pipe, stdout=pipe, stderr=pipe)
    out, err = await process.communicate(stdin.encode())
    step = _step("Finished", 0.1, process.returncode, out.decode(), err.decode())
    return _run_record("Failed" if process.returncode else "Success", None, step)


async def _end_gracefully(service: FakeService) -> None:
    service.is_ending = True
    ports = service.ports.values()
    for port in ports:
        if port.server is not None:
            port.server.close()
    while any(port.in_flight for port in ports):
        await asyncio.sleep(0.01)
    os._exit(0)


async def main(count: int, first: int, keeps: bool, real: bool) -> None:
    """Serves until standard input ends."""
    answers = read_answers()
    requests = json.loads((DATA / "sandboxfusion_requests.json").read_text())
    service = FakeService([{"answer": answers.get(r["name"]), **r} for r in requests], keeps, real)
    ports = [(await service.listen(first + n if first else 0)).number for n in range(count)]
    service.control_port = (await service.listen(0)).number
    if real:
        loop, ends = asyncio.get_running_loop(), []
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: ends.append(loop.create_task(_end_gracefully(service))))
    print(json.dumps({"ports": ports, "control_port": service.control_port}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)  # whatever still hangs


if __name__ == "__main__":
    arguments = [int(a) for a in sys.argv[1:] if not a.startswith("-")]
    first = arguments[1] if len(arguments) > 1 else 0
    try:
        asyncio.run(main(arguments[0], first, "--forget" not in sys.argv, "--real" in sys.argv))
    except KeyboardInterrupt:
        pass
