"""Judges one solution on a problem's tests: sends the requests in order and builds the result from the answers.

Called in a worker thread, once for each attempt at a task. A test that passed isn't run again. A test that exceeded its
time limit is run again in a later call of the judge (`nbrun.Retry`), so that no worker waits, and earlier attempts are
known after a restart.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nbrun import verdicts
from nbrun.errors import JudgeError, NotSupportedError
from nbrun.judge.fusion.answers import ENDED_FROM_OUTSIDE, Fault, JudgingRules, TestOutcome, read_run, read_submit
from nbrun.judge.fusion.client import Client, Reply
from nbrun.judge.fusion.connection import Call
from nbrun.judge.fusion.protocol import Program, RunOptions, run_code, submit
from nbrun.judge.time_limits import Attempt, Next, look_at, next_attempt, next_compile
from nbrun.model import Retry
from nbrun.verdicts import Verdict

#: The exit status of SIGKILL, from a process and from a shell: a sign that the machine ran out of memory.
_KILLED = (-9, 137)
#: A program that a stopping server's signal may have ended is wrong once that has happened in this many attempts: a
#: server may be restarted while the second one runs, too.
_SIGNALLED_ATTEMPTS = 3


@dataclass(frozen=True)
class Policy:
    """Which of the service's two paths a judge uses, and how far it raises limits.

    Attributes:
        api: "submit" or "run_code".
        max_time_limit_s: None if time limits are never raised.
    """

    api: str
    rules: JudgingRules
    max_time_limit_s: float | None
    max_compile_limit_s: float


class Solution:
    """One solution that is being judged.

    Args:
        task: identifies the task; the client counts lost requests under it.
        before: the result of the last attempt; None on the first one.
        hint: the hint of the last attempt's Retry; empty on the first one.
    """

    def __init__(
        self,
        name: str,
        program: Program,
        tests: Sequence[Mapping[str, object]],
        options: RunOptions,
        policy: Policy,
        client: Client,
        call: Call,
        task: object,
        before: Mapping[str, object] | None,
        hint: Mapping[str, object],
    ) -> None:
        self.name, self.program, self.tests, self.options, self.policy = name, program, tests, options, policy
        self.client, self.call, self.task = client, call, task
        self.records: list[dict[str, Any] | None] = [None] * len(tests)
        # Number of a test -> its outcome, for the tests that were run in this call:
        self.outcomes: dict[int, TestOutcome] = {}
        self.replies: dict[int, Reply] = {}
        self.options_used: dict[int, RunOptions] = {}
        self.attempts: list[Attempt] = []
        self.load, self.endpoint = 0, ""
        self._server_differs = False  # whether the server stopped at a test that is right here
        self.hint: Mapping[str, object] = {}
        if before is not None and continues(before, hint, tests, options):
            self.hint = hint
            self._continue(before)

    def _continue(self, before: Mapping[str, Any]) -> None:
        """Take over the records of the last attempt."""
        self.attempts = [Attempt.read(a) for a in before.get("attempts", ())]
        self.load, self.endpoint = before.get("load", 0), before.get("api_used", "")
        for number, record in enumerate(before["tests"]):
            self.records[number] = dict(record)

    def judge(self) -> dict[str, object] | Retry:
        """Return the result, or a Retry where a test must be run again.

        Raises:
            JudgeError: the servers failed.
            JudgeUnavailableError: no endpoint can be reached now.
            NoOtherEndpoint: a test must be run again at another endpoint, but no other one is in use.
        """
        if self.hint:
            self._run_again(self.hint)
        while missing := self._missing():
            self._run(missing, self.options, alone=False, avoid=())
        return self._finish()

    # ---- requests

    def _run_again(self, hint: Mapping[str, Any]) -> None:
        """Run the test whose outcome the last attempt left open."""
        number = int(hint["test"])
        options = self.options._replace(
            time_limit_s=float(hint["time_limit_s"]),
            compile_limit_s=float(hint.get("compile_limit_s") or self.options.compile_limit_s),
        )
        self.records[number] = None
        self._run([number], options, alone=bool(hint.get("alone")), avoid=tuple(hint.get("avoid", ())))
        outcome, reply = self.outcomes[number], self.replies[number]
        if outcome.verdict != Verdict.TIME_LIMIT_EXCEEDED and outcome.fault is not Fault.COMPILE_TIME:
            self.attempts.append(
                Attempt(str(outcome.verdict), options.time_limit_s, reply.load, reply.endpoint, number)
            )

    def _missing(self) -> list[int]:
        """Return the numbers of the tests that must still be run."""
        missing = [n for n, record in enumerate(self.records) if record is None]
        if self.options.all_tests or not missing:
            return missing
        failed = self._first_failed()
        return missing if failed is None or failed > missing[0] else []

    def _first_failed(self) -> int | None:
        return next((n for n, record in enumerate(self.records) if record is not None and not record["passed"]), None)

    def _run(self, numbers: list[int], options: RunOptions, alone: bool, avoid: Collection[str]) -> None:
        """Send one request, for all of these tests or only the first one, and record the outcomes."""
        if self.policy.api == "run_code" or self._is_slowed():
            numbers = numbers[:1]
        if self.policy.api == "run_code":
            test = self.tests[numbers[0]]
            request = run_code(self.program, test, options)
            read = partial(self._read_one, test)
        else:
            sent_options = options._replace(all_tests=options.all_tests or self._server_differs)
            tests = [self.tests[n] for n in numbers]
            request = submit(self.program, tests, sent_options, self.name)
            read = partial(read_submit, tests=tests, rules=self.policy.rules)
        language = self.program.language
        reply = self.client.send(request, read, self.call, language, self.task, alone=alone, avoid=avoid)
        self.load, self.endpoint = max(self.load, reply.load), reply.endpoint + request.path
        for number, outcome in zip(numbers, reply.outcomes, strict=False):
            self.outcomes[number], self.replies[number], self.options_used[number] = outcome, reply, options
            outcome.record["load"] = reply.load
            if options.time_limit_s != self.options.time_limit_s:
                outcome.record["time_limit_s"] = options.time_limit_s
            self.records[number] = outcome.record
            if not self.options.all_tests and not outcome.record["passed"]:
                return
        self._server_differs = len(reply.outcomes) < len(numbers)

    def _is_slowed(self) -> bool:
        """Return whether a test was too slow in parallel but fast enough alone; then the remaining tests run alone."""
        late = {a.test for a in self.attempts if a.verdict == Verdict.TIME_LIMIT_EXCEEDED and a.load > 1}
        return any(a.test in late and a.load <= 1 and a.verdict == Verdict.ACCEPTED for a in self.attempts)

    def _read_one(self, test: Mapping[str, object], body: bytes) -> list[TestOutcome]:
        return [read_run(body, test, self.policy.rules)]

    # ---- the result

    def _finish(self) -> dict[str, object] | Retry:
        for number, outcome in sorted(self.outcomes.items()):
            if outcome.fault is Fault.LONG_OUTPUT:
                raise NotSupportedError(
                    f"test {number} wrote {outcome.detail}: a SandboxFusion server cuts or stalls what is longer than "
                    "128 KiB, and a longer limit doesn't help. Judge this problem with LocalSandbox."
                )
            if outcome.fault is Fault.COMPILE_TIME:
                return self._compile_again(number)
        failed = self._first_failed()
        wanted = None if failed is None or failed not in self.outcomes else self._next(failed, self.outcomes[failed])
        return self.result() if failed is None or wanted is None else self._retry(failed, wanted)

    def _next(self, failed: int, outcome: TestOutcome) -> Next | None:
        """Return how the first failed test must be run again; None if its verdict is final. Record the attempt."""
        alone = partial(Next, time_limit_s=self.options.time_limit_s, alone=True)
        if _ended_by(outcome, _KILLED) and self.replies[failed].load > 1:
            self._add_attempt(failed, outcome)
            return alone("something killed it beside other programs: tried alone")
        if _ended_by(outcome, ENDED_FROM_OUTSIDE):
            if not self.hint or self.hint["test"] != failed:  # else it is recorded already
                self._add_attempt(failed, outcome)
            ended_so = [a for a in self.attempts if a.test == failed and a.verdict == Verdict.RUNTIME_ERROR]
            if len(ended_so) < _SIGNALLED_ATTEMPTS:
                return alone("a signal ended it, perhaps the server's: tried alone")
        if outcome.verdict != Verdict.TIME_LIMIT_EXCEEDED:
            return None
        self._add_attempt(failed, outcome)
        attempts = [a for a in self.attempts if a.test == failed and a.compile_limit_s is None]
        return next_attempt(attempts, self.policy.max_time_limit_s, self.client.pool.able(self.program.language))

    def _add_attempt(self, number: int, outcome: TestOutcome, compile_limit_s: float | None = None) -> None:
        reply, options = self.replies[number], self.options_used[number]
        written = None if outcome.written is None else str(outcome.written)
        verdict, share = str(outcome.verdict), round(outcome.share, 4)
        self.attempts.append(
            Attempt(verdict, options.time_limit_s, reply.load, reply.endpoint, number, written, share, compile_limit_s)
        )

    def _compile_again(self, number: int) -> Retry:
        limit = self.options_used[number].compile_limit_s
        self._add_attempt(number, self.outcomes[number], limit)
        attempts = [a for a in self.attempts if a.compile_limit_s is not None]
        wanted = next_compile(attempts, self.policy.max_compile_limit_s)
        if wanted is None:
            tried = ", ".join(f"{a.compile_limit_s:g} s at a load of {a.load}" for a in attempts)
            raise JudgeError(
                f"the compiler did not end in time ({tried}), which says nothing of the source. "
                "Give it more with max_compile_limit_s=.",
                retriable=False,
            )
        self.records[number] = None
        return self._retry(number, wanted)

    def _retry(self, number: int, wanted: Next) -> Retry:
        hint = hint_of(number, wanted, self.options.time_limit_s) | {"compile_limit_s": wanted.compile_limit_s}
        return Retry(f"test {number}: {wanted.reason}", hint=hint, result=self.result(pending=number))

    def result(self, pending: int | None = None) -> dict[str, object]:
        """Return the result so far, in SandboxFusion's shape.

        Args:
            pending: the number of the test that will be run again, if any.
        """
        last = next((n for n, record in enumerate(self.records) if record is None), len(self.records))
        if pending is not None and not self.options.all_tests:
            last = min(last, pending + 1)
        records = [record for record in self.records[:last] if record is not None]
        failed = next((record for record in records if not record["passed"]), None)
        is_whole = failed is not None or len(records) == len(self.tests)
        verdict = verdict_of(failed) if failed is not None else (Verdict.ACCEPTED if is_whole else Verdict.JUDGE_ERROR)
        result: dict[str, object] = {
            "accepted": verdict == Verdict.ACCEPTED,
            "verdict": str(verdict),
            "tests": records,
            "tests_total": len(self.tests),
            "limits": {
                "time_limit_s": max([self.options.time_limit_s, *(r.get("time_limit_s", 0.0) for r in records)]),
                "compile_limit_s": self.options.compile_limit_s,
                "memory_limit_mb": self.options.memory_limit_mb,
            },
            "load": self.load,
            "api_used": self.endpoint,
        }
        return result | ({"attempts": [a.record() for a in self.attempts]} if self.attempts else {})


def hint_of(test: int | None, wanted: Next, base_limit_s: float | None) -> dict[str, object]:
    """Return the hint that makes a later call of the judge run a test again, also after a restart."""
    return {
        "test": test,
        "time_limit_s": wanted.time_limit_s,
        "alone": wanted.alone,
        "avoid": list(wanted.avoid),
        "base_limit_s": base_limit_s,
    }


def _ended_by(outcome: TestOutcome, statuses: Collection[int]) -> bool:
    """Return whether a program failed with one of these exit statuses, of signals that programs rarely send."""
    run = outcome.record["exec_info"].get("run_result")
    return outcome.verdict == Verdict.RUNTIME_ERROR and isinstance(run, Mapping) and run.get("return_code") in statuses


# ---- saved results


def verdict_of(record: Mapping[str, object]) -> str:
    """Return the verdict of one test, from its record."""
    if record.get("passed") is True:
        return Verdict.ACCEPTED
    saved = record.get("verdict")
    if isinstance(saved, str):
        return saved
    return verdicts.of({"accepted": False, "tests": [record]}) or Verdict.JUDGE_ERROR


def history(result: Mapping[str, object]) -> list[Attempt]:
    """Return the attempts at the test that decided a saved result, as recorded or derived from the result.

    The list is empty if the result doesn't record its limit, or if no time limit decided it.

    Example:
        >>> history({"verdict": "TimeLimitExceeded", "tests": []})
        []
    """
    records = result.get("tests")
    if not isinstance(records, list):
        return []
    deciding = next((n for n, r in enumerate(records) if isinstance(r, Mapping) and r.get("passed") is not True), None)
    if deciding is None or verdict_of(records[deciding]) != Verdict.TIME_LIMIT_EXCEEDED:
        return []
    recorded = result.get("attempts")
    if isinstance(recorded, list) and recorded:
        attempts = [Attempt.read(a) for a in recorded if isinstance(a, Mapping)]
        return [a for a in attempts if a.test == deciding and a.compile_limit_s is None]
    derived = _derived(result, records[deciding], deciding)
    return [] if derived is None else [derived]


def _derived(result: Mapping[str, Any], record: Mapping[str, Any], test: int) -> Attempt | None:
    """Return the attempt that a record of a test describes; None if the record doesn't have enough."""
    limits = result.get("limits")
    limit = limits.get("time_limit_s") if isinstance(limits, Mapping) else None
    expected = ((record.get("test_info") or {}).get("output") or {}).get("stdout")
    if not isinstance(limit, (int, float)) or record.get("cut") or not isinstance(expected, str):
        return None
    run = (record.get("exec_info") or {}).get("run_result") or {}
    worked = bool(run.get("stderr")) or (float(run.get("execution_time") or 0) > limit / 2 and "wall_time" in run)
    written, share = look_at(expected, run.get("stdout") or "", worked=worked)
    load = record.get("load", result.get("load", 1))
    endpoint = str(result.get("api_used") or "").removesuffix("/submit").removesuffix("/run_code")
    return Attempt(Verdict.TIME_LIMIT_EXCEEDED, float(limit), int(load), endpoint, test, str(written), share)


def continues(
    before: Mapping[str, object], hint: Mapping[str, object], tests: Sequence[Mapping[str, object]], options: RunOptions
) -> bool:
    """Return whether a result was made with these tests and limits, so that passed tests don't have to run again."""
    records = before.get("tests")
    number = hint.get("test")
    if not isinstance(records, list) or not isinstance(number, int) or before.get("tests_total") != len(tests):
        return False
    if hint.get("base_limit_s") != options.time_limit_s or not number < len(tests) or len(records) > len(tests):
        return False
    return all(_describes(record, test) for record, test in zip(records, tests, strict=False))


def _describes(record: object, test: Mapping[str, Any]) -> bool:
    """Return whether a record belongs to a test; its copies of the test's input and output may be truncated."""
    info = record.get("test_info") if isinstance(record, Mapping) else None
    if not isinstance(record, Mapping) or not isinstance(info, Mapping):
        return False
    cut = record.get("cut") or {}
    for key, inner in (("input", "stdin"), ("output", "stdout")):
        saved = (info.get(key) or {}).get(inner)
        if not isinstance(saved, str):
            return False
        is_whole = saved == test[key]
        if not is_whole and not (key in cut and test[key].startswith(saved.rstrip("\ufffd"))):
            return False
    return True
