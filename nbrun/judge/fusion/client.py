"""Sends requests to the pool until one is answered as it should be: a failing endpoint costs the task only time.

Called by many worker threads at once. What an endpoint does wrong is told to the pool, and the next one is asked; only
where none is left does the caller hear of it.

    Refused      it never got the request, or is gone since      another one; none left: JudgeUnavailableError
    Lost         hang, reset or cut, and it is alive             another one; none left: the same, unless this task
                                                                 has been lost in LOST_TRIES calls: JudgeError
    Sick         500, garbage, no SandboxFusion, no runtime      another one; none left: JudgeError
    400, 413, 422                                                the caller's fault: JudgeError at once
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, NoReturn

from nbrun.errors import JudgeError, JudgeUnavailableError
from nbrun.judge.fusion.answers import Fault, Found, Garbage
from nbrun.judge.fusion.endpoints import Endpoint, Turn
from nbrun.judge.fusion.pool import Nowhere, Pool
from nbrun.judge.fusion.protocol import Ask
from nbrun.judge.fusion.wire import Answer, Call, Line, Lost, Refused, TooManyFiles
from nbrun.verdicts import Verdict

#: So many endpoints may fail one request.
TRIES = 6
#: In so many calls a task may be lost by endpoints that are alive, before it is thought to be its own fault.
LOST_TRIES = 3
PING_S = 2.0
_ALIVE_S = 5.0  # so long after a sign of life no other is asked for
_PINGED_AT_ONCE = 32
_CALLERS_FAULT = (400, 413, 422)
#: What a server that is one answers when it fails, or who stands before it.
_FAILING = (429, 500, 502, 503, 504)
_SHOWN = 400
_MOST_TOLD = 3

Read = Callable[[bytes], list[Found]]


class NoOther(Exception):
    """All endpoints that are in use were to be avoided."""


class Sick(Exception):
    """An endpoint answered badly."""


class NoRuntime(Exception):
    """An endpoint can't run that language."""


class Sent(NamedTuple):
    """What came back, from where, and how many programs ran there at once meanwhile."""

    found: list[Found]
    endpoint: str
    load: int


class _Failure(NamedTuple):
    endpoint: str
    text: str
    kind: type[Exception]


class Client:
    """The way to a pool.

    Args:
        trial: asks an endpoint whether it can run a language at all: (language) -> a request, and how to read it.
    """

    def __init__(
        self, pool: Pool, headers: Mapping[str, str], read_timeout_s: float | None, connect_timeout_s: float,
        trial: Callable[[str], tuple[Ask, Read] | None],
    ) -> None:  # fmt: skip
        self.pool, self._read_timeout_s, self._connect_timeout_s = pool, read_timeout_s, connect_timeout_s
        self._headers = {"Content-Type": "application/json", **headers}
        self._trial = trial
        self._lock = threading.Lock()  # protects _lost
        self._lost: dict[object, int] = {}  # task -> how often it was lost

    def send(
        self, ask: Ask, read: Read, call: Call, language: str, task: object, *, alone: bool = False,
        avoid: Collection[str] = (),
    ) -> Sent:  # fmt: skip
        """The first answer that says something.

        Raises:
            JudgeError: the request is wrong, too many endpoints failed it, or it was cancelled.
            JudgeUnavailableError: no endpoint is left that could be asked.
            NoOther: all that are in use are to be avoided.
        """
        failures: list[_Failure] = []
        while True:
            try:
                been = {*avoid, *(f.endpoint for f in failures)}
                turn = self.pool.take(call, ask.weight, language, alone=alone, avoid=been)
            except Nowhere as e:
                self._nowhere(e, failures, bool(avoid), language, task)
            try:
                is_doubtful = any(f.kind in (Refused, Lost) for f in failures)
                found = self._try(turn, ask, read, call, language, is_doubtful)
            except (Refused, Lost, Sick, NoRuntime) as e:
                failures.append(self._failure(turn.endpoint, e, call))
                if sum(f.kind is not Refused for f in failures) >= TRIES:
                    raise JudgeError(f"{len(failures)} endpoints failed it: {_told(failures)}", retriable=False) from e
                continue
            with self._lock:
                self._lost.pop(task, None)
            return Sent(found, turn.endpoint.name, turn.load)

    def _try(self, turn: Turn, ask: Ask, read: Read, call: Call, language: str, is_doubtful: bool) -> list[Found]:
        pool, line = self.pool, self.pool.line(turn)
        began = time.monotonic()
        try:
            if (turn.is_probe or is_doubtful) and not pool.was_alive(turn.endpoint, _ALIVE_S):
                self._ping(line, call)
                began = time.monotonic()
            found = self._judged(line, ask, read, call, language)
        except (Refused, Lost, Sick) as e:
            pool.failed(turn, str(e), is_gone=not isinstance(e, Sick))
            raise
        except NoRuntime as e:
            pool.left(turn, is_alive=True, note=str(e), lacks=language)
            raise
        except TooManyFiles as e:
            pool.left(turn)
            raise JudgeUnavailableError(
                f"This process can open no more connections: {e}. Raise its limit (`ulimit -n`), or use fewer workers."
            ) from e
        except BaseException:  # cut, or a checker's own
            pool.left(turn, is_alive=not call.is_cut)
            raise
        pool.done(turn, time.monotonic() - began)
        return found

    def _failure(self, endpoint: Endpoint, e: Exception, call: Call) -> _Failure:
        """What went wrong. A request that an endpoint lost may be at fault itself, if that is alive."""
        kind = type(e)
        if kind is Lost:
            line = Line(endpoint.address, min(PING_S, self._connect_timeout_s))
            try:
                self._ping(line, call)
            except (Refused, Sick, TooManyFiles):
                kind = Refused
            finally:
                line.close()
        return _Failure(endpoint.name, str(e), kind)

    def _understand(self, answer: Answer, path: str, read: Read) -> list[Found]:
        if answer.status in _CALLERS_FAULT:
            raise JudgeError(
                f"the server refuses the request ({answer.status} to {path}): {_detail(answer.body)}", retriable=False
            )
        if answer.status != 200:
            hint = "" if answer.status in _FAILING else "; is a SandboxFusion server there?"
            raise Sick(f"it answers {path} with {answer.status} ({_detail(answer.body)}){hint}")
        try:
            found = read(answer.body)
        except Garbage as e:
            raise Sick(f"it answers {path}, but {e}; is a SandboxFusion server there?") from None
        for f in found:
            if f.fault is Fault.SICK:
                raise Sick(f"it failed: {f.detail}")
        return found

    def _judged(self, line: Line, ask: Ask, read: Read, call: Call, language: str) -> list[Found]:
        """What an endpoint says. That the runtime is missing can be said by a program too: then another one is run."""
        found = self._exchange(line, ask, read, call)
        missing = next((f for f in found if f.fault is Fault.NO_RUNTIME), None)
        if missing is None:
            return found
        trial = self._trial(language) if missing.record["exec_info"].get("run_result") is not None else None
        tried = self._exchange(line, *trial, call) if trial is not None else []
        if not any(f.fault is None and f.verdict in (Verdict.ACCEPTED, Verdict.WRONG_ANSWER) for f in tried):
            raise NoRuntime(f"it can't run {language}: {missing.detail}")
        found = self._exchange(line, ask, read, call)  # it may have been missing for a moment
        for f in found:
            f.believe()
        return found

    def _exchange(self, line: Line, ask: Ask, read: Read, call: Call) -> list[Found]:
        timeout_s = self._read_timeout_s or ask.timeout_s
        answer = line.ask("POST", ask.path, ask.body, self._headers, timeout_s, call)
        return self._understand(answer, ask.path, read)

    def _nowhere(self, e: Nowhere, failures: list[_Failure], is_picky: bool, language: str, task: object) -> NoReturn:
        """Raises what the caller is told when no endpoint is left."""
        if is_picky and not failures and self.pool.has_closed():
            raise NoOther from None
        if not self.pool.others(language, alive=False):
            raise JudgeError(
                f"none of the {len(self.pool.endpoints)} endpoints can run {language}. {_told(failures)}".rstrip(),
                retriable=False,
            ) from None  # fmt: skip
        if any(f.kind in (Sick, NoRuntime) for f in failures):
            raise JudgeError(f"every endpoint that could be asked failed: {_told(failures)}") from None
        if any(f.kind is Lost for f in failures):
            with self._lock:
                lost = self._lost[task] = self._lost.get(task, 0) + 1
                if lost >= LOST_TRIES:
                    del self._lost[task]
            if lost >= LOST_TRIES:
                told = _told(failures)
                raise JudgeError(f"endpoints that are alive lost the request, in {lost} rounds: {told}") from None
        raise JudgeUnavailableError(self._away()) from None

    def _away(self) -> str:
        errors = self.pool.errors()
        told = [_Failure(name, text, Lost) for name, text in errors.items()]
        count = len(self.pool.endpoints)
        which = "The SandboxFusion endpoint" if count == 1 else f"None of the {count} SandboxFusion endpoints"
        return (
            f"{which} can{'not' if count == 1 else ''} be reached ({_told(told)}). "
            "The run goes on by itself when one is back."
        )

    # ---- signs of life

    def _ping(self, line: Line, call: Call) -> None:
        """Asks for a sign of life. Raises Refused or Sick."""
        try:
            answer = line.ask("GET", "/v1/ping", b"", self._headers, PING_S, call)
        except Lost as e:
            raise Refused(str(e)) from e
        if answer.status >= 500:
            raise Sick(f"it answers /v1/ping with {answer.status}: {_detail(answer.body)}")

    def is_back(self) -> bool:
        """Whether an endpoint can be asked; those that are out of order are asked for a sign of life."""
        is_in_use = self.pool.has_closed()  # which may lack what somebody needs: so the others are asked too
        asked = self.pool.out_of_order(_PINGED_AT_ONCE)
        signs: list[Endpoint] = []
        threads = [threading.Thread(target=self._look, args=(e, signs), name="nbrun-ping", daemon=True) for e in asked]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 2 * PING_S
        for thread in threads:
            thread.join(0.05 if signs or is_in_use else max(0.0, deadline - time.monotonic()))
        return is_in_use or bool(signs)

    def _look(self, endpoint: Endpoint, signs: list[Endpoint]) -> None:
        line = Line(endpoint.address, min(PING_S, self._connect_timeout_s))
        try:
            self._ping(line, Call())
        except (Refused, Sick, TooManyFiles):
            return
        finally:
            line.close()
        self.pool.gave_sign(endpoint)
        signs.append(endpoint)


def _told(failures: list[_Failure]) -> str:
    """Which endpoint said what; equal words are told once."""
    by_text: dict[str, list[str]] = {}
    for f in failures:
        by_text.setdefault(f.text, []).append(f.endpoint)
    told = [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {text}"
        for text, names in by_text.items()
    ]
    more = f"; and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
    return "; ".join(told[:_MOST_TOLD]) + more


def _detail(body: bytes) -> str:
    """What a server says of its refusal, in one line."""
    text = body[: 8 * _SHOWN].decode("utf-8", "replace")
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, LookupError, TypeError):
        pass
    else:
        if isinstance(detail, list):  # one for each field
            detail = "; ".join(
                f"{'.'.join(map(str, d.get('loc', ())))}: {d.get('msg', d)}" if isinstance(d, Mapping) else str(d)
                for d in detail
            )
        text = str(detail)
    if text.lstrip()[:1] == "<":
        return "a web page"
    text = " ".join(text.split()).rstrip(".: ")
    return text[:_SHOWN] + ("…" if len(text) > _SHOWN else "") or "nothing more"
