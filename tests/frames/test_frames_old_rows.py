"""Rows of the older program's files against the plain way to read them, one entry at a time with json."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

import nbrun
from nbrun import verdicts
from nbrun.canonical import key_text
from nbrun.results.sample_file import old_keys

ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, 0, 1, -1, 2.5, "", "Success", "x", [], {}, ["a"], 2**70]
)
STATUS = st.sampled_from(["Finished", "TimeLimitExceeded", "Error", None, "RuntimeError"])
RUN = st.fixed_dictionaries(
    {},
    optional={
        "status": STATUS | ODD,
        "execution_time": st.floats(0, 1e6) | st.integers(0, 100) | ODD.filter(lambda x: x != -1),
        "return_code": st.sampled_from([0, 1, 127, -6, None]) | ODD,
        "stdout": st.text(max_size=3),
        "stderr": st.sampled_from(["", "Traceback (most recent call last)", "SyntaxError: invalid syntax"]),
    },
)
PLAIN = st.builds(
    lambda passed, time_s: {
        "passed": passed,
        "exec_info": {
            "status": "Success",
            "message": "",
            "compile_result": None,
            "run_result": {
                "status": "Finished",
                "execution_time": time_s,
                "return_code": 0,
                "stdout": "",
                "stderr": "",
            },
        },
    },
    st.booleans(),
    st.floats(0, 1e6),
)
TEST = PLAIN | st.fixed_dictionaries(
    {},
    optional={
        "passed": st.booleans() | ODD,
        "exec_info": ODD
        | st.fixed_dictionaries(
            {},
            optional={
                "status": st.sampled_from(["Success", "SandboxError", "Failed"]) | ODD,
                "compile_result": RUN | ODD,
                "run_result": RUN | ODD,
            },
        ),
    },
)
RESULT = ODD | st.fixed_dictionaries(
    {},
    optional={
        "accepted": st.booleans() | ODD,
        "verdict": st.sampled_from(["Accepted", "WrongAnswer", "mine", "JudgeError", None]),
        "tests": st.lists(TEST | PLAIN, max_size=4) | ODD,
        "extracted_code": st.text(max_size=3),
        "score": st.integers(-5, 5),
    },
)
ROW = st.fixed_dictionaries(
    {"result": RESULT},
    optional={
        "language": st.sampled_from(["CPP", "PYTHON3", 3, 9, None, True]),
        "solution": st.sampled_from(["a", "b", "é", 5, None]),
    },
)


def expected(row: dict[str, Any]) -> dict[str, Any]:
    """The fixed columns of one entry, from the functions that read a single result."""
    result = row["result"]
    verdict = verdicts.of(result) if isinstance(result, dict) else None
    given = result.get("accepted") if isinstance(result, dict) else None
    accepted = True if verdict == "Accepted" else False if verdicts.rejects(verdict) else None
    if accepted is None and verdict != "JudgeError" and isinstance(given, bool):
        accepted = given
    tests = result.get("tests") if isinstance(result, dict) else None
    n_tests, n_passed, slowest = verdicts.summary_of_tests(result) if verdicts.are_tests(tests) else (None, None, None)
    language = row.get("language")
    if type(language) is int:
        language = {3: "PYTHON3"}.get(language)
    return {
        "verdict": verdict,
        "accepted": accepted,
        "n_tests": n_tests,
        "n_passed": n_passed,
        "max_time_s": slowest,
        "language": language if isinstance(language, str) else None,
        "key": key_text(*old_keys([row])),
    }


@settings(deadline=None, max_examples=150)
@given(st.lists(ROW, min_size=1, max_size=6), st.booleans())
def test_each_row_is_what_its_entry_says(rows: list[dict[str, Any]], is_progress: bool) -> None:
    value: dict[str, Any] = {"id": "a", "solution_result": rows, "incorrect_solution_result": [], "api_used": "u"}
    if is_progress:
        value["progress"] = {"total_solutions": len(rows), "is_complete": True}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.json").write_text(json.dumps(value, indent=4))
        df = nbrun.load_results(folder)
    assert len(df) == len(rows)
    seen = Counter[str]()
    for got, row in zip(df.to_dict("records"), rows, strict=True):
        for name, wanted in expected(row).items():
            value = got[name]
            is_missing = value is None or value is pd.NA or value != value
            assert (None if is_missing else value) == wanted, (name, row)
        assert got["occurrence"] == seen[got["key"]]
        seen[got["key"]] += 1


@given(st.lists(TEST | PLAIN, min_size=1, max_size=4))
def test_a_verdict_does_not_depend_on_the_kind_of_mapping(tests: list[dict[str, Any]]) -> None:
    """Plain dicts take a shorter way."""
    wrapped = [wrap(test) for test in tests]
    assert verdicts.of({"accepted": False, "tests": tests}) == verdicts.of({"accepted": False, "tests": wrapped})


def wrap(value: Any) -> Any:
    return MappingProxyType({k: wrap(v) for k, v in value.items()}) if isinstance(value, dict) else value
