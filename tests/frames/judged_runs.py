"""Judged runs for the tests of the frames: problems whose solutions name their verdicts, and the judge of them."""

from __future__ import annotations

import threading
from pathlib import Path

import nbrun

OLD = Path(__file__).parent.parent / "data" / "old"
#: verdict -> what a judge in SandboxFusion's shape would have said of one test
RUNS = {
    "Accepted": {"status": "Finished", "execution_time": 0.5, "return_code": 0, "stdout": "1\n", "stderr": ""},
    "WrongAnswer": {"status": "Finished", "execution_time": 0.25, "return_code": 0, "stdout": "2\n", "stderr": ""},
    "TimeLimitExceeded": {"status": "TimeLimitExceeded", "execution_time": 2.0, "stdout": "", "stderr": ""},
    "RuntimeError": {"status": "Finished", "execution_time": 0.1, "return_code": 1, "stdout": "", "stderr": "boom"},
}


def judged(verdict, tests=2):
    """A result in SandboxFusion's shape; all tests pass but the last one, which has that verdict."""
    shape = lambda name: {  # noqa: E731
        "passed": name == "Accepted",
        "exec_info": {"status": "Success", "compile_result": None, "run_result": RUNS[name]},
        "test_info": {"input": {"stdin": "x\n"}, "output": {"stdout": "1\n"}},
    }
    if verdict == "JudgeError":
        return {"accepted": False, "verdict": "JudgeError", "tests": []}
    rows = [shape("Accepted")] * (tests - 1) + [shape(verdict)]
    return {"accepted": verdict == "Accepted", "verdict": verdict, "tests": rows}


def answer(task):
    """The item's source names its verdict; "raise" raises."""
    word = task.item["solution"].split()[0]
    if word == "raise":
        raise ValueError("no such word")
    return judged(word)


def problem(sample_id, right, wrong):
    """A sample whose solutions name their verdicts; a number distinguishes equal names."""
    items = lambda words: [  # noqa: E731
        {"language": ("PYTHON3", "CPP")[i % 2], "solution": f"{w} {i}"} for i, w in enumerate(words)
    ]
    return {"id": sample_id, "solutions": items(right), "incorrect_solutions": items(wrong)}


def run(samples, results, fn=answer, **more):
    """A run to its end, without a view and without retries."""
    return nbrun.start(samples, fn, results, **({"workers": 4, "retry": None, "view": None} | more)).wait(60)


PROBLEMS = [
    problem("p1", ["Accepted", "Accepted", "WrongAnswer"], ["WrongAnswer", "Accepted"]),
    problem("p2", ["Accepted", "TimeLimitExceeded"], ["RuntimeError", "raise", "JudgeError", "WrongAnswer"]),
]


class Gate:
    """An fn whose tasks wait at a gate until they are let through."""

    def __init__(self):
        self.passes = threading.Semaphore(0)

    def __call__(self, task):
        threading.Event().wait(0.004)  # a task that works a while: the shortest ones are handed over a few at a time
        self.passes.acquire()
        return answer(task)
