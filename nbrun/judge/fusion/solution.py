"""One solution on its tests: what is asked of the pool, in which order, and what comes of it in the end.

One call a task, in a worker thread. What passed stays passed; a test whose time was up is tried again by itself, in
another call of the judge (`nbrun.Retry`), so that no worker waits and a restart knows what was tried.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nbrun import verdicts
from nbrun.errors import JudgeError, NotSupportedError
from nbrun.judge.fusion.answers import Fault, Found, Opinions, read_run, read_submit
from nbrun.judge.fusion.client import Client, Sent
from nbrun.judge.fusion.protocol import Program, Terms, run_code, submit
from nbrun.judge.fusion.wire import Call
from nbrun.judge.time_limits import Attempt, Next, next_attempt, next_compile
from nbrun.model import Retry
from nbrun.verdicts import Verdict

#: SIGKILL, as a process and as a shell tell it: the sign of a machine that is out of memory.
_KILLED = (-9, 137)


@dataclass(frozen=True)
class Way:
    """How a judge asks: by which of the service's two doors, and up to where it raises limits."""

    api: str
    opinions: Opinions
    max_time_limit_s: float | None
    max_compile_limit_s: float


class Solution:
    """One solution being judged.

    Args:
        task: what the client remembers losses under.
        before: the result of the last attempt; None on the first one.
        hint: what the last attempt's Retry passed on.
    """

    def __init__(
        self, name: str, program: Program, tests: Sequence[Mapping[str, Any]], terms: Terms, way: Way, client: Client,
        call: Call, task: object, before: Mapping[str, Any] | None, hint: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.name, self.program, self.tests, self.terms, self.way = name, program, tests, terms, way
        self.client, self.call, self.task = client, call, task
        self.records: list[dict[str, Any] | None] = [None] * len(tests)
        self.found: dict[int, Found] = {}  # of this call
        self.sent: dict[int, Sent] = {}
        self.limits: dict[int, Terms] = {}
        self.attempts: list[Attempt] = []
        self.load, self.endpoint = 0, ""
        self._server_differs = False  # it stopped at a test that we accept
        self.hint: Mapping[str, Any] = {}
        if before is not None and is_continued(before, hint, tests, terms):
            self.hint = hint
            self._continue(before)

    def _continue(self, before: Mapping[str, Any]) -> None:
        self.attempts = [Attempt.read(a) for a in before.get("attempts", ())]
        self.load, self.endpoint = before.get("load", 0), before.get("api_used", "")
        for number, record in enumerate(before["tests"]):
            self.records[number] = dict(record)

    def judge(self) -> dict[str, Any] | Retry:
        """The result, or that it shall be tried again.

        Raises:
            JudgeError: the machinery failed.
            JudgeUnavailableError: no endpoint can be asked now.
            NoOther: it was to be tried elsewhere, and there is no elsewhere now.
        """
        if self.hint:
            self._again(self.hint)
        while todo := self._todo():
            self._ask(todo, self.terms, alone=False, avoid=())
        return self._end()

    # ---- asking

    def _again(self, hint: Mapping[str, Any]) -> None:
        """The one test that the last attempt left in doubt."""
        number = int(hint["test"])
        terms = self.terms._replace(
            time_limit_s=float(hint["time_limit_s"]),
            compile_limit_s=float(hint.get("compile_limit_s") or self.terms.compile_limit_s),
        )
        self.records[number] = None
        self._ask([number], terms, alone=bool(hint.get("alone")), avoid=tuple(hint.get("avoid", ())))
        found, sent = self.found[number], self.sent[number]
        if found.verdict != Verdict.TIME_LIMIT_EXCEEDED and found.fault is not Fault.COMPILE_TIME:
            self.attempts.append(Attempt(str(found.verdict), terms.time_limit_s, sent.load, sent.endpoint, number))

    def _todo(self) -> list[int]:
        missing = [n for n, record in enumerate(self.records) if record is None]
        if self.terms.all_tests or not missing:
            return missing
        failed = self._first_failed()
        return missing if failed is None or failed > missing[0] else []

    def _first_failed(self) -> int | None:
        return next((n for n, record in enumerate(self.records) if record is not None and not record["passed"]), None)

    def _ask(self, todo: list[int], terms: Terms, alone: bool, avoid: Collection[str]) -> None:
        """One request: for all of these tests, or for the first of them."""
        if self.way.api == "run_code" or self._is_slowed():
            todo = todo[:1]
        if self.way.api == "run_code":
            test = self.tests[todo[0]]
            ask = run_code(self.program, test, terms)
            read = partial(self._read_one, test)
        else:
            asked = terms._replace(all_tests=terms.all_tests or self._server_differs)
            tests = [self.tests[n] for n in todo]
            ask = submit(self.program, tests, asked, self.name)
            read = partial(read_submit, tests=tests, opinions=self.way.opinions)
        sent = self.client.send(ask, read, self.call, self.program.language, self.task, alone=alone, avoid=avoid)
        self.load, self.endpoint = max(self.load, sent.load), sent.endpoint + ask.path
        for number, found in zip(todo, sent.found, strict=False):
            self.found[number], self.sent[number], self.limits[number] = found, sent, terms
            found.record["load"] = sent.load
            if terms.time_limit_s != self.terms.time_limit_s:
                found.record["time_limit_s"] = terms.time_limit_s
            self.records[number] = found.record
            if not self.terms.all_tests and not found.record["passed"]:
                return
        self._server_differs = len(sent.found) < len(todo)

    def _is_slowed(self) -> bool:
        """Whether this program was too slow beside its other tests and fast enough alone: then the rest runs alone."""
        late = {a.test for a in self.attempts if a.verdict == Verdict.TIME_LIMIT_EXCEEDED and a.load > 1}
        return any(a.test in late and a.load <= 1 and a.verdict == Verdict.ACCEPTED for a in self.attempts)

    def _read_one(self, test: Mapping[str, Any], body: bytes) -> list[Found]:
        return [read_run(body, test, self.way.opinions)]

    # ---- the end

    def _end(self) -> dict[str, Any] | Retry:
        for number, found in sorted(self.found.items()):
            if found.fault is Fault.LONG:
                raise NotSupportedError(
                    f"test {number} wrote {found.detail}: a SandboxFusion server cuts or stalls what is longer than "
                    "128 KiB, and a longer limit doesn't help. Judge this problem with LocalSandbox."
                )
            if found.fault is Fault.COMPILE_TIME:
                return self._compile_again(number)
        failed = self._first_failed()
        if failed is not None and failed in self.found:
            found = self.found[failed]
            if _was_killed(found) and self.sent[failed].load > 1:
                self._note(failed, found)
                why = "something killed it beside other programs: tried alone"
                return self._retry(failed, Next(why, self.terms.time_limit_s, alone=True))
            if found.verdict == Verdict.TIME_LIMIT_EXCEEDED:
                self._note(failed, found)
                places = self.client.pool.others(self.program.language)
                of_it = [a for a in self.attempts if a.test == failed and a.compile_limit_s is None]
                wanted = next_attempt(of_it, self.way.max_time_limit_s, places)
                if wanted is not None:
                    return self._retry(failed, wanted)
        return self.result()

    def _note(self, number: int, found: Found, compile_limit_s: float | None = None) -> None:
        sent, terms = self.sent[number], self.limits[number]
        written = None if found.written is None else str(found.written)
        verdict, share = str(found.verdict), round(found.share, 4)
        self.attempts.append(
            Attempt(verdict, terms.time_limit_s, sent.load, sent.endpoint, number, written, share, compile_limit_s)
        )

    def _compile_again(self, number: int) -> Retry:
        limit = self.limits[number].compile_limit_s
        self._note(number, self.found[number], limit)
        of_it = [a for a in self.attempts if a.compile_limit_s is not None]
        wanted = next_compile(of_it, self.way.max_compile_limit_s)
        if wanted is None:
            tried = ", ".join(f"{a.compile_limit_s:g} s at a load of {a.load}" for a in of_it)
            raise JudgeError(
                f"the compiler did not end in time ({tried}), which says nothing of the source. "
                "Give it more with max_compile_limit_s=.", retriable=False,
            )  # fmt: skip
        self.records[number] = None
        return self._retry(number, wanted)

    def _retry(self, number: int, wanted: Next) -> Retry:
        hint = {
            "test": number, "time_limit_s": wanted.time_limit_s, "compile_limit_s": wanted.compile_limit_s,
            "alone": wanted.alone, "avoid": list(wanted.avoid), "base_limit_s": self.terms.time_limit_s,
        }  # fmt: skip
        return Retry(f"test {number}: {wanted.reason}", hint=hint, result=self.result(pending=number))

    def result(self, pending: int | None = None) -> dict[str, Any]:
        """What is known by now, in SandboxFusion's shape. `pending`: the test that will be tried again."""
        last = next((n for n, record in enumerate(self.records) if record is None), len(self.records))
        if pending is not None and not self.terms.all_tests:
            last = min(last, pending + 1)
        records = [record for record in self.records[:last] if record is not None]
        failed = next((record for record in records if not record["passed"]), None)
        is_whole = failed is not None or len(records) == len(self.tests)
        verdict = verdict_of(failed) if failed is not None else (Verdict.ACCEPTED if is_whole else Verdict.JUDGE_ERROR)
        limit = max([self.terms.time_limit_s, *(r.get("time_limit_s", 0.0) for r in records)])
        result: dict[str, Any] = {
            "accepted": verdict == Verdict.ACCEPTED, "verdict": str(verdict), "tests": records,
            "tests_total": len(self.tests), "limits": {
                "time_limit_s": limit, "compile_limit_s": self.terms.compile_limit_s,
                "memory_limit_mb": self.terms.memory_limit_mb,
            },
            "load": self.load, "api_used": self.endpoint,
        }  # fmt: skip
        return result | ({"attempts": [a.record() for a in self.attempts]} if self.attempts else {})


def _was_killed(found: Found) -> bool:
    """Whether it died by a signal that no limit sends and programs seldom get by themselves."""
    run = found.record["exec_info"].get("run_result")
    return found.verdict == Verdict.RUNTIME_ERROR and isinstance(run, Mapping) and run.get("return_code") in _KILLED


def verdict_of(record: Mapping[str, Any]) -> str:
    """The verdict of one test, from its record."""
    if record.get("passed") is True:
        return Verdict.ACCEPTED
    told = record.get("verdict")
    return told if isinstance(told, str) else verdicts.of({"accepted": False, "tests": [record]}) or Verdict.JUDGE_ERROR


def is_continued(
    before: Mapping[str, Any], hint: Mapping[str, Any], tests: Sequence[Mapping[str, Any]], terms: Terms
) -> bool:
    """Whether a result belongs to these tests and limits, so that what it tells needn't be asked again."""
    records = before.get("tests")
    number = hint.get("test")
    if not isinstance(records, list) or not isinstance(number, int) or before.get("tests_total") != len(tests):
        return False
    if hint.get("base_limit_s") != terms.time_limit_s or not number < len(tests) or len(records) > len(tests):
        return False
    return all(_is_about(record, test) for record, test in zip(records, tests, strict=False))


def _is_about(record: Any, test: Mapping[str, Any]) -> bool:
    """Whether a record tells of this test: of its streams it may hold only the beginnings."""
    info = record.get("test_info") if isinstance(record, Mapping) else None
    if not isinstance(info, Mapping):
        return False
    cut = record.get("cut") or {}
    for key, inner in (("input", "stdin"), ("output", "stdout")):
        told = (info.get(key) or {}).get(inner)
        if not isinstance(told, str):
            return False
        whole = told == test[key]
        if not whole and not (key in cut and test[key].startswith(told.rstrip("\ufffd"))):
            return False
    return True
