"""SandboxFusion as `fn`: what it sends, and what it makes of the answers that a real server gave."""

from __future__ import annotations

import base64
import functools
import json
import operator
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from fusion_helpers import ANSWERS, REQUESTS, SUM, TESTS, Service, replayed, scripted, task
from hypothesis import given, settings
from hypothesis import strategies as st
from judge_helpers import paths_in, replaced

from nbrun.errors import InputError, JudgeError, NotSupportedError
from nbrun.judge import LocalSandbox, SandboxFusion, read_problems
from nbrun.judge.checkers import DEFAULT
from nbrun.judge.fusion.connection import read_endpoints
from nbrun.judge.fusion.protocol import Fault, InvalidAnswer, JudgingRules, read_run, read_submit
from nbrun.model import Retry
from nbrun.verdicts import Verdict


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    service = Service(1)
    yield service
    service.close()


def judged(service: Service, item: Any, problem: Any = SUM, **options: Any) -> dict[str, Any]:
    result = SandboxFusion(service.urls, **options)(task(item, problem))
    assert isinstance(result, dict), result
    return result


def sent(service: Service) -> dict[str, Any]:
    """The last request."""
    body: dict[str, Any] = service.saw(0)["seen"][-1]["body"]
    return body


REPLAYED = {
    "submit-cpp-accepted": "Accepted",
    "submit-java-accepted": "Accepted",
    "submit-python-accepted": "Accepted",
    "submit-float-tolerance": "Accepted",
    "submit-multi-float-line": "Accepted",  # the server's own comparison rejects it
    "submit-long-io": "Accepted",
    "submit-case-insensitive": "WrongAnswer",  # the server's own comparison accepts it
    "submit-inner-spaces": "Accepted",
    "submit-cpp-compile-error": "CompileError",
    "submit-cpp-rte": "RuntimeError",
    "submit-python-rte": "RuntimeError",
    "submit-python-wrong-answer": "WrongAnswer",
}


@pytest.mark.parametrize(("name", "verdict"), REPLAYED.items())
def test_answers_of_a_real_server(service: Service, name: str, verdict: str) -> None:
    item, problem = replayed(name)
    result = judged(service, item, problem, time_limit_s=5)
    assert (result["verdict"], result["accepted"]) == (verdict, verdict == "Accepted")
    assert result["limits"]["time_limit_s"] == 5
    assert result["api_used"] == service.urls[0] + "/submit"
    assert result["load"] == min(3, len(problem["tests"]))
    shown = [(t["test_info"]["input"]["stdin"], t["test_info"]["output"]["stdout"]) for t in result["tests"]]
    asked = [(t["input"][:512], t["output"][:512]) for t in problem["tests"]]
    assert shown == asked[: len(shown)]  # not as the server cut them


@pytest.mark.parametrize(
    ("name", "verdict"), [("submit-case-insensitive", "Accepted"), ("submit-multi-float-line", "WrongAnswer")]
)
def test_the_servers_own_comparison_counts_where_it_is_asked_for(service: Service, name: str, verdict: str) -> None:
    assert judged(service, *replayed(name), comparison="server")["verdict"] == verdict


@pytest.mark.parametrize(("name", "verdict"), [
    ("run_code-cpp-compile-error", "CompileError"), ("run_code-cpp-rte-segv", "RuntimeError"),
    ("run_code-python-exit3", "RuntimeError"), ("run_code-python-syntax-error", "CompileError"),
    ("run_code-python-mem-limit", "RuntimeError"), ("run_code-python-non-utf8", "WrongAnswer"),
])  # fmt: skip
def test_answers_to_run_code(service: Service, name: str, verdict: str) -> None:
    result = judged(service, *replayed(name), api="run_code")
    assert result["verdict"] == verdict
    assert result["api_used"] == service.urls[0] + "/run_code"
    assert result["load"] == 1


def test_a_compile_timeout_is_no_compile_error(service: Service) -> None:
    item, problem = replayed("run_code-cpp-compile-timeout")
    retry = SandboxFusion(service.urls, api="run_code", compile_limit_s=0.05)(task(item, problem))
    assert isinstance(retry, Retry)
    assert retry.hint["compile_limit_s"] == pytest.approx(0.15)  # it was alone already
    with pytest.raises(JudgeError, match="says nothing of the source"):
        SandboxFusion(service.urls, api="run_code", compile_limit_s=0.05, max_compile_limit_s=0.05)(task(item, problem))


@pytest.mark.parametrize(
    "name", ["run_code-missing-runtime-go", "run_code-sandboxerror-unsupported-sql", "run_code-unknown-language"]
)
def test_a_fault_of_the_server_is_a_judge_error(service: Service, name: str) -> None:
    languages = {"SQL": "sql", "COBOL": "cobol"}
    body = REQUESTS[name]["body"]
    problem = {"id": "p", "tests": [{"input": body.get("stdin", ""), "output": "?"}]}
    judge = SandboxFusion(service.urls, api="run_code", languages=languages)
    with pytest.raises(JudgeError) as e:
        judge(task({"language": body["language"], "solution": body["code"]}, problem))
    assert not isinstance(e.value, NotSupportedError)


def test_what_is_sent(service: Service) -> None:
    judged(service, scripted(), time_limit_s=3, compile_limit_s=7)
    body = sent(service)
    assert body["completion"] == "```python\n#script {}\n\n```"
    assert body["config"] == {
        "dataset_type": "CommonOJDataset", "language": "python", "run_timeout": 3, "compile_timeout": 7,
        "provided_data": {"test": [{"input": {"stdin": t["input"]}, "output": {"stdout": t["output"]}} for t in TESTS]},
        "extra": {"run_all_cases": False},
    }  # fmt: skip
    judged(service, scripted(), all_tests=True)
    assert sent(service)["config"]["extra"] == {"run_all_cases": True}
    judged(service, scripted(), api="run_code", memory_limit_mb=100, checker=lambda e, o: True)
    body = sent(service)
    assert (body["memory_limit_MB"], body["stdin"], body["run_timeout"]) == (100, TESTS[1]["input"], 2)


@pytest.mark.parametrize(("language", "limit"), [("PYTHON3", 100), ("CPP", 1024), ("JAVA", None), ("NODEJS", None)])
def test_memory_limits_let_compilers_and_virtual_machines_start(
    service: Service, language: str, limit: int | None
) -> None:
    options = {"memory_limit_mb": 100, "checker": lambda expected, output: True}
    result = judged(service, scripted(language), api="run_code", **options)
    assert sent(service).get("memory_limit_MB") == limit
    assert result["limits"]["memory_limit_mb"] == limit
    assert judged(service, scripted(language), **options)["limits"]["memory_limit_mb"] is None  # /submit has none


def test_a_source_with_backticks_arrives_whole(service: Service) -> None:
    source = 'x = """\n```\nprint(0)\n```\n"""\n'
    judged(service, {"language": "PYTHON3", "solution": source})
    body = sent(service)
    taken: list[dict[str, Any]] = []
    exec(
        body["config"]["custom_extract_logic"],
        {"completion": body["completion"], "CodeBlock": dict, "submit_code_blocks": taken.extend},
    )
    assert taken == [{"priority": 40, "code": source, "language": "python"}]


def test_javas_class_is_called_main(service: Service) -> None:
    source = (
        'package a.b;\npublic class Solve { String s = "Solve"; public static void main(String[] a) {} }\nclass Main {}'
    )
    judged(service, {"language": "JAVA", "solution": source})
    code = sent(service)["completion"]
    assert 'public class Main { String s = "Solve";' in code
    assert "class Main_ {}" in code
    assert "package" not in code


def test_limits_come_from_the_user_the_problem_or_two_seconds(service: Service) -> None:
    for problem_s, user_s, factor, limit in ((3, None, {}, 3), (3, 5, {}, 5), (None, None, {}, 2), (0, None, {}, 2),
                                             (3, None, {"PYTHON3": 2.5}, 7.5)):  # fmt: skip
        problem = {**SUM, "time_limit": problem_s}
        result = judged(service, scripted(), problem, time_limit_s=user_s, time_factor=factor)
        assert sent(service)["config"]["run_timeout"] == result["limits"]["time_limit_s"] == limit


def test_an_empty_list_of_tests_is_refused(service: Service) -> None:
    before = len(service.saw(0)["seen"])
    with pytest.raises(NotSupportedError, match="no test"):
        judged(service, scripted(), {"id": "p", "tests": []})
    assert len(service.saw(0)["seen"]) == before


@pytest.mark.parametrize("language", ["PYTHON", "C", "COBOL", 1, None])
def test_languages_that_the_service_lacks(service: Service, language: Any) -> None:
    with pytest.raises(NotSupportedError, match="no language"):
        judged(service, {"language": language, "solution": ""})


def test_output_over_128_kib_is_no_time_limit(service: Service) -> None:
    expected = "1234567 " * 40_000
    problem = {"id": "long", "tests": [{"input": "", "output": expected}]}
    with pytest.raises(NotSupportedError, match="128 KiB"):
        judged(service, scripted(needs_s=9, early=0.7), problem)
    with pytest.raises(NotSupportedError, match="128 KiB"):  # cut, and ended in time
        judged(service, scripted(output={"": expected[:200_000]}), problem)
    wrong = judged(service, scripted(output={"": "9" * 200_000}, needs_s=9, early=0.9), problem)
    assert wrong["verdict"] == "TimeLimitExceeded"  # wrong already, whatever was cut
    assert judged(service, scripted(output={"": expected}), problem)["verdict"] == "Accepted"


def test_a_test_that_the_server_alone_rejects_stops_nothing(service: Service) -> None:
    tests = [{"input": f"{i}\n", "output": "0.333333 1\n"} for i in range(5)]
    item = scripted(output={"": "0.3333330001 1\n"})
    before = len(service.saw(0)["seen"])
    result = judged(service, item, {"id": "floats", "tests": tests})
    assert (result["verdict"], len(result["tests"])) == ("Accepted", 5)
    assert len(service.saw(0)["seen"]) - before == 2  # the first stopped at once; then all the rest
    item = scripted(output={"": "0.3333330001 1\n", "3\n": "7 7\n"})
    result = judged(service, item, {"id": "floats", "tests": tests})
    assert (result["verdict"], len(result["tests"])) == ("WrongAnswer", 4)


def test_all_tests_run_where_that_is_asked_for(service: Service) -> None:
    tests = [{"input": f"{i}\n", "output": f"{i}\n"} for i in range(5)]
    item = scripted(output={"1\n": "9\n", **{f"{i}\n": f"{i}\n" for i in (0, 2, 3, 4)}})
    for api in ("submit", "run_code"):
        result = judged(service, item, {"id": "p", "tests": tests}, all_tests=True, api=api)
        assert [t["passed"] for t in result["tests"]] == [True, False, True, True, True]
        result = judged(service, item, {"id": "p", "tests": tests}, api=api)
        assert [t["passed"] for t in result["tests"]] == [True, False]


def test_streams_are_cut_and_say_so(service: Service) -> None:
    problem = {"id": "p", "tests": [{"input": "i" * 900, "output": "o" * 900}]}
    record = judged(service, scripted(), problem, keep_output_bytes=100)["tests"][0]
    assert record["cut"] == {"stdout": 900, "input": 900, "output": 900}
    assert record["exec_info"]["run_result"]["stdout"] == "o" * 100
    assert "cut" not in judged(service, scripted(), problem, keep_output_bytes=None)["tests"][0]


def test_a_problems_own_checker_counts(service: Service) -> None:
    problem = {**SUM, "checker": {"type": "kattis", "flags": "case_sensitive float_tolerance 1e-1"}}
    item = scripted(output={t["input"]: t["output"].strip() + ".05" for t in TESTS})
    assert judged(service, item, problem)["verdict"] == "Accepted"
    with pytest.raises(NotSupportedError, match="LocalSandbox"):
        judged(service, item, {**SUM, "checker": {"type": "validator", "programs": [scripted()]}})


def test_a_program_that_claims_that_python_is_missing(service: Service) -> None:
    liar = scripted(return_code=127, stderr="/bin/bash: line 1: python: command not found\n")
    assert judged(service, liar)["verdict"] == "RuntimeError"
    service.behave("no runtime")
    try:
        with pytest.raises(JudgeError, match="none of the 1 endpoints can run python"):
            judged(service, scripted())
    finally:
        service.behave()


@pytest.mark.parametrize(("endpoints", "says"), [
    ([], "no endpoints"), ("ftp://h:1", "ftp:// is not supported"), ([5], "is a int"), ("http://", "names no host"),
    ("http://h:99999", "Port out of range"), ("http://u:p@h", "headers="), ("http://h/submit?x=1", "more than a host"),
    ("h o:80", "holds a space"), ("http://größe:80", "beyond ASCII"),
    (None, "give a list of URLs"), ({"a": 1}, "give a list of URLs"),
])  # fmt: skip
def test_wrong_endpoints_are_an_error_at_once(endpoints: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        SandboxFusion(endpoints)


def test_endpoints_in_any_usual_spelling() -> None:
    given = ["http://a:8080/submit", "http://a:8080/", "a:8080", "https://b/run_code", "http://[::1]:5/box"]
    assert [x.name for x in read_endpoints(given)] == ["http://a:8080", "https://b", "http://[::1]:5/box"]
    assert read_endpoints("https://b")[0][1:] == ("b", 443, "", True)


@pytest.mark.parametrize(("options", "says"), [
    ({"time_limit_s": 0}, "time_limit_s"), ({"max_in_flight": 0}, "max_in_flight"), ({"api": "jupyter"}, "api="),
    ({"comparison": "theirs"}, "comparison="), ({"keep_output_bytes": -1}, "keep_output_bytes"),
    ({"headers": {"a": "b\r\nc: d"}}, "headers"), ({"headers": {"a b": "c"}}, "headers"),
    ({"time_factor": {"CPP": -1}}, "time_factor"), ({"comparison": "server", "api": "run_code"}, "goes with"),
])  # fmt: skip
def test_wrong_arguments_are_an_error_at_once(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        SandboxFusion("http://a", **options)


def test_it_travels(service: Service) -> None:
    judge = pickle.loads(pickle.dumps(SandboxFusion(service.urls, time_limit_s=3)))
    assert judge(task(scripted()))["verdict"] == "Accepted"
    assert judge.settings == SandboxFusion(service.urls, time_limit_s=3).settings
    judge.close()
    assert judge(task(scripted()))["verdict"] == "Accepted"


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_garbage_is_never_a_rejection(data: st.DataObject) -> None:
    """The answer to a right solution, with something in it replaced by what doesn't belong there."""
    name = data.draw(st.sampled_from(["submit-python-accepted", "submit-cpp-accepted"]))
    answer, (_, problem) = ANSWERS[name], replayed(name)
    places = list(paths_in(answer))
    at = places[data.draw(st.integers(0, len(places) - 1))]
    before = functools.reduce(operator.getitem, at, answer)
    alien = data.draw(st.sampled_from([None, 0.5, "alien", [], [1], {}, {"a": 1}, True]))
    is_expected_output = len(at) > 3 and at[2] == "test_info"  # no code reads it
    if type(alien) is type(before) or is_expected_output:
        return
    answer = replaced(answer, at, alien)
    try:
        found = read_submit(json.dumps(answer).encode(), problem["tests"], JudgingRules(DEFAULT, True, None))
    except InvalidAnswer:
        return
    verdicts = {str(f.verdict) for f in found}
    assert verdicts <= {"Accepted", "JudgeError"}, (at, alien)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b"\xff", b'{"accepted": true}', b'"text"', b"[" * 10**6])
def test_an_answer_that_is_none(body: bytes) -> None:
    with pytest.raises(InvalidAnswer):
        read_submit(body, TESTS, JudgingRules(DEFAULT, True, None))
    with pytest.raises(InvalidAnswer):
        read_run(body, TESTS[:1], JudgingRules(DEFAULT, True, None))


def test_tests_that_are_no_text_are_refused(service: Service) -> None:
    with pytest.raises(NotSupportedError, match="no text"):
        judged(service, scripted(), {"id": "p", "tests": [{"input": b"\xff", "output": "1"}]})


@pytest.mark.parametrize(("stderr", "is_fault"), [
    ("g++: fatal error: Killed signal terminated program cc1plus\ncompilation terminated.\n", True),
    ("g++: fatal error: Interrupt signal terminated program cc1plus\ncompilation terminated.\n", True),
    ("g++: internal compiler error: Segmentation fault signal terminated program cc1plus\n", False),
    ("cc1plus: out of memory allocating 65536 bytes after a total of 1 bytes\n", True),
    ("Error occurred during initialization of VM\nCould not reserve enough space\n", True),
    ("#\n# There is insufficient memory for the Java Runtime Environment to continue.\n", True),
    ("/tmp/a.cpp:1:2: error: #error g++: fatal error: Killed signal terminated program cc1plus\n", False),
    ("Main.java:1: error: Error occurred during initialization of VM\n", False),
])  # fmt: skip
def test_a_compiler_that_the_machine_starved_says_nothing_of_the_source(stderr: str, is_fault: bool) -> None:
    step = {"status": "Finished", "execution_time": 1.0, "return_code": 1, "stdout": "", "stderr": stderr}
    run = {"status": "Failed", "message": "", "compile_result": step, "run_result": None}
    (found,) = read_run(json.dumps(run).encode(), TESTS[:1], JudgingRules(DEFAULT, True, None))
    assert (found.fault is Fault.SERVER_FAILED, str(found.verdict)) == (
        is_fault,
        "JudgeError" if is_fault else "CompileError",
    )


def test_who_is_killed_beside_others_is_tried_alone(service: Service) -> None:
    killed = scripted(return_code=-9)
    retry = SandboxFusion(service.urls)(task(killed))
    assert isinstance(retry, Retry)
    assert retry.hint["alone"]
    result = SandboxFusion(service.urls)(task(killed, hint=retry.hint, previous=retry.result, attempt=2))
    assert isinstance(result, dict)
    assert [(a["load"], a["verdict"]) for a in result["attempts"]] == [(2, "RuntimeError"), (1, "RuntimeError")]
    assert judged(service, scripted(return_code=-11))["verdict"] == "RuntimeError"


@pytest.mark.parametrize("code", [-2, -15, -1, 130, 143])
def test_who_is_ended_by_a_signal_is_tried_again_whatever_the_load(service: Service, code: int) -> None:
    """A server that is interrupted interrupts its programs too: its process group gets the signal."""
    ended = scripted(return_code=code)
    retry = SandboxFusion(service.urls)(task(ended))
    assert isinstance(retry, Retry)
    retry = SandboxFusion(service.urls)(task(ended, hint=retry.hint, previous=retry.result, attempt=2))
    assert isinstance(retry, Retry), "the server may have been restarted twice"
    result = SandboxFusion(service.urls)(task(ended, hint=retry.hint, previous=retry.result, attempt=3))
    assert isinstance(result, dict)
    assert [a["verdict"] for a in result["attempts"]] == ["RuntimeError"] * 3


def test_a_compiler_that_a_signal_ended_says_nothing_of_the_source() -> None:
    step = {"status": "Finished", "execution_time": 1.0, "return_code": -2, "stdout": "", "stderr": ""}
    run = {"status": "Failed", "message": "", "compile_result": step, "run_result": None}
    assert (
        read_run(json.dumps(run).encode(), TESTS[:1], JudgingRules(DEFAULT, True, None))[0].fault is Fault.SERVER_FAILED
    )


@pytest.mark.parametrize(("stdout", "fault"), [("", Fault.SERVER_FAILED), ("3\n", None)])
def test_an_interpreter_that_is_interrupted_before_it_runs_the_program_says_nothing(
    stdout: str, fault: Fault | None
) -> None:
    """Python ends with status 1 then, as after an exception of the program."""
    stderr = "Fatal Python error: init_import_site: Failed to import the site module\nKeyboardInterrupt\n"
    step = {"status": "Finished", "execution_time": 0.1, "return_code": 1, "stdout": stdout, "stderr": stderr}
    run = {"status": "Failed", "message": "", "compile_result": None, "run_result": step}
    assert read_run(json.dumps(run).encode(), TESTS[:1], JudgingRules(DEFAULT, True, None))[0].fault is fault


def test_headers_go_along(service: Service) -> None:
    assert judged(service, scripted(), headers={"Authorization": "Bearer x"})["verdict"] == "Accepted"
    assert service.saw(0)["seen"][-1]["headers"]["authorization"] == "Bearer x"
    assert "Bearer" not in json.dumps(SandboxFusion(service.urls, headers={"Authorization": "Bearer x"}).settings)


# ---- the local sandbox on what a real server judged

#: Requests whose answer doesn't say enough to be compared: why.
NOT_SAID = {
    "list_datasets": "no program is judged",
    "ping": "no program is judged",
    "run_code-bad-json": "the request is refused",
    "run_code-cpp-compile-timeout": "the compiler was stopped",
    "run_code-missing-field": "the request is refused",
    "run_code-missing-runtime-go": "the server has no Go",
    "run_code-python-non-utf8": "the answer lacks the bytes that were no UTF-8",
    "run_code-python-output-1000000": "the server stops reading after 219,264 bytes, and the program waits for it",
    "run_code-python-output-3000000": "the server stops reading after 219,264 bytes, and the program waits for it",
    "run_code-sandboxerror-bad-base64-file": "the server failed",
    "run_code-sandboxerror-unsupported-sql": "the server failed",
    "run_code-unknown-language": "the request is refused",
    "submit-empty-tests": "there is no test",
    "submit-missing-tests": "there is no test",
    "submit-no-language": "the request is refused",
    "submit-sandboxerror-500-after-5-retries": "the server failed",
    "submit-unfenced-completion": "the server finds no source in it",
    "submit-unknown-dataset": "the request is refused",
}
COMPARED = sorted(set(REQUESTS) - set(NOT_SAID))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[LocalSandbox]:
    sandbox = LocalSandbox()
    yield sandbox
    sandbox.close()


def test_what_is_not_compared_is_known() -> None:
    assert len(REQUESTS) == 54
    assert set(NOT_SAID) <= set(REQUESTS)
    assert set(COMPARED) <= set(ANSWERS)


COMPILED = [pytest.mark.long, pytest.mark.needs("g++", "javac")]


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if "python" in name else COMPILED) for name in COMPARED])
def test_the_local_sandbox_agrees_with_a_real_server(sandbox: LocalSandbox, name: str) -> None:
    body, answer = REQUESTS[name]["body"], json.dumps(ANSWERS[name]).encode()
    rules = JudgingRules(DEFAULT, True, None)
    if REQUESTS[name]["path"] == "/submit":
        source, language = body["completion"], body["config"]["language"]
        tests = body["config"].get("provided_data", {}).get("test")
        if tests is None:  # the server has them; its answer repeats those that it ran
            tests = [record["test_info"] for record in ANSWERS[name]["tests"]]
        problem = next(iter(read_problems([{"id": name, "tests": tests, "solutions": []}])))
        real = [outcome.verdict for outcome in read_submit(answer, problem["tests"], rules)]
    else:
        source, language = body["code"], body["language"]
        test, more = _test_of(body, ANSWERS[name])
        problem = {"id": name, "tests": [test], **more}
        real = [
            o.verdict for o in read_run(answer, [{"input": test["input"], "output": _written(ANSWERS[name])}], rules)
        ]
    wanted = next((verdict for verdict in real if verdict != Verdict.ACCEPTED), Verdict.ACCEPTED)
    if "mem-limit" in name and wanted == Verdict.RUNTIME_ERROR:
        wanted = Verdict.MEMORY_LIMIT_EXCEEDED  # the service has no such verdict
    # A short limit for endless loops, which are run until they reach it, more than once.
    limits = {"time_limit_s": 0.5 if "tle" in name else 2.0, "memory_limit_mb": body.get("memory_limit_MB")}
    found = sandbox(task({"language": language, "solution": source}, {**problem, **limits}))
    assert found["verdict"] == str(wanted)


def _test_of(body: dict[str, Any], answer: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a test whose expected output is what the server's program wrote, and the problem's further keys."""
    test: dict[str, Any] = {"input": body.get("stdin") or "", "output": _written(answer)}
    more: dict[str, Any] = {}
    if "files" in body:
        test["files"] = {name: base64.b64decode(text).decode() for name, text in body["files"].items()}
    for name in body.get("fetch_files", ()):
        test["output"] = base64.b64decode(answer["files"][name]).decode()
        more["stream_files"] = {"output": name}
    return test, more


def _written(answer: dict[str, Any]) -> str:
    return (answer["run_result"] or {}).get("stdout") or ""


@pytest.mark.parametrize("name", ["run_code-python-output-1000000", "run_code-python-output-3000000"])
def test_the_local_sandbox_reads_output_to_its_end(sandbox: LocalSandbox, name: str) -> None:
    body = REQUESTS[name]["body"]
    problem = {"id": name, "tests": [{"input": "", "output": "a" * int(name.rpartition("-")[2])}]}
    assert sandbox(task({"language": "python", "solution": body["code"]}, problem))["verdict"] == "Accepted"


@pytest.mark.parametrize(
    "name",
    [
        "run_code-missing-field", "run_code-sandboxerror-unsupported-sql", "run_code-unknown-language",
        "submit-empty-tests", "submit-missing-tests", "submit-no-language", "submit-sandboxerror-500-after-5-retries",
    ],
)  # fmt: skip
def test_what_a_real_server_refuses_or_fails_on_is_no_verdict_here_either(sandbox: LocalSandbox, name: str) -> None:
    body = REQUESTS[name]["body"]
    config = body.get("config", {})
    tests = config.get("provided_data", {"test": [{"input": "", "output": ""}]}).get("test")
    item = {"language": body.get("language", config.get("language")), "solution": body.get("code")}
    if "completion" in body:
        item["solution"] = body["completion"]
    with pytest.raises(NotSupportedError):
        sandbox(task(item, {"id": name, "tests": tests}))
