"""What counts as a change of fn, what doesn't, and in which words a change is reported."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

import nbrun
from nbrun.errors import InputError, RunActiveError
from nbrun.results.format import frame
from nbrun.session.settings import settings_of
from tests.waiting import until

ROOT = Path(__file__).parents[2]
ONE = [{"id": "a", "items": [1]}]


def made(source: str, tmp_path: Path, **variables: Any) -> dict[str, Any]:
    """A module of that source, as a file or a notebook's cell gives it."""
    path = tmp_path / "cell.py"
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    names: dict[str, Any] = {"__name__": "cell", "__file__": str(path), **variables}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec", dont_inherit=True), names)
    return names


def changes(before: str, now: str, tmp_path: Path, name: str = "fn", **variables: Any) -> list[str]:
    """What the second module's function changes against a run record of the first's."""
    record = orjson.loads(orjson.dumps(settings_of(made(before, tmp_path, **variables)[name]).record()))
    return settings_of(made(now, tmp_path, **variables)[name]).changes(record)


BASE = """
def helper(x):
    return x + 1

def fn(task):
    value = helper(task.item)
    for i in range(3):
        if i > value:
            break
    return {"v": value, "text": f"{value:.2f}"}
"""


@pytest.mark.parametrize(
    "now",
    [
        "# a remark\n" + BASE,
        BASE.replace("    value =", '    """A docstring."""\n    # a remark\n\n\n    value  ='),
        BASE.replace("def fn(task):", "def fn(\n    task,\n):"),
        BASE.replace("def fn(task):", "def fn(task: object) -> dict:"),
        BASE.replace("def helper", "def unused():\n    return 7\n\ndef helper"),
        BASE.replace('return {"v"', "return {'v'").replace('"text": f', "\n            'text': f"),
        BASE.replace("range(3)", "range( 3 )").replace("if i > value:\n            break", "if (i > value): break"),
    ],
)
def test_comments_layout_and_docstrings_are_no_change(now: str, tmp_path: Path) -> None:
    assert changes(BASE, now, tmp_path) == []


@pytest.mark.parametrize(
    ("now", "word"),
    [
        (BASE.replace("x + 1", "x + 2"), "helper"),
        (BASE.replace("i > value", "i >= value"), "fn"),
        (BASE.replace('"v"', '"w"'), "fn"),
        (BASE.replace(":.2f", ":.3f"), "fn"),
        (BASE.replace("return x + 1", "return other(x)\n\ndef other(x):\n    return x"), "helper"),
    ],
)
def test_changed_code_of_fn_and_of_what_it_calls_is_a_change(now: str, word: str, tmp_path: Path) -> None:
    assert any(word in line for line in changes(BASE, now, tmp_path))


VALUES = [
    ("MODEL = {}\ndef fn(t): return MODEL", "'small'", "'large'"),
    ("MODEL = {}\ndef fn(t): return len(MODEL)", "{'name': 'a', 'n': [1, 2]}", "{'name': 'a', 'n': [1, 3]}"),
    ("MODEL = {}\ndef inner(): return MODEL\ndef fn(t): return inner()", "1", "2"),
    ("MODEL = {}\ndef fn(t): return [MODEL for _ in range(2)]", "1.0", "1"),
    ("MODEL = {}\ndef fn(t, MODEL=MODEL): return MODEL", "1", "2"),
    ("MODEL = {}\ndef fn(t, *, MODEL=MODEL): return MODEL", "1", "True"),
    ("def make(MODEL):\n    def fn(t): return MODEL\n    return fn\nfn = make({})", "'a'", "'b'"),
    ("def make(MODEL):\n    return lambda t: MODEL\nfn = make({})", "'a'", "'b'"),
    ("def make(MODEL):\n    async def fn(t): return MODEL\n    return fn\nfn = make({})", "'a'", "'b'"),
    ("import functools\ndef ask(t, MODEL): return MODEL\nfn = functools.partial(ask, MODEL={})", "'a'", "'b'"),
    ("import functools\ndef ask(MODEL, t): return MODEL\nfn = functools.partial(ask, {})", "'a'", "'b'"),
    ("class J:\n def __init__(s, m): s.MODEL = m\n def __call__(s, t): return s.MODEL\nfn = J({})", "1", "2"),
    ("class J:\n def __init__(s, m): s.MODEL = m\n def ask(s, t): return s.MODEL\nfn = J({}).ask", "1", "2"),
    ("class J:\n MODEL = {}\n def __call__(s, t): return s.MODEL\nfn = J()", "1", "2"),
    ("class J:\n __slots__ = ('MODEL',)\n def __init__(s, m): s.MODEL = m\n def __call__(s, t): return s.MODEL\n"
     "fn = J({})", "1", "2"),
    ("class J:\n def __init__(s, m): s.MODEL = m\n def __call__(s, t): return s.MODEL\njudge = J({})\n"
     "fn = lambda t: judge(t)", "1", "2"),
    ("class J:\n def __init__(s, m): s.MODEL = m\n def ask(s): return s.MODEL\ndef make(j): return lambda t: j.ask()\n"
     "fn = make(J({}))", "1", "2"),
    ("import dataclasses\n@dataclasses.dataclass\nclass C:\n MODEL: object\nc = C({})\ndef fn(t): return c.MODEL",
     "'a'", "'b'"),
    ("import types\nc = types.SimpleNamespace(MODEL={})\ndef fn(t): return c.MODEL", "'a'", "'b'"),
    ("import functools\nMODEL = {}\n@functools.cache\ndef ask(x): return MODEL\ndef fn(t): return ask(t)", "1", "2"),
    ("import functools\nMODEL = {}\n@functools.cache\ndef fn(t): return MODEL", "1", "2"),
    ("import pathlib\nMODEL = pathlib.Path({})\ndef fn(t): return str(MODEL)", "'a'", "'b'"),
    ("import numpy\nMODEL = numpy.array({})\ndef fn(t): return MODEL.sum()", "[1, 2]", "[1, 3]"),
    ("import re\nMODEL = re.compile({})\ndef fn(t): return MODEL.match('a')", "'a'", "'b'"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "a", "b"), VALUES)
def test_simple_values_that_fn_refers_to_are_settings(source: str, a: str, b: str, tmp_path: Path) -> None:
    def at(value: str) -> str:
        return source.replace("{}", value)

    assert changes(at(a), at(a), tmp_path) == []
    assert any(line.startswith(("MODEL", "argument 1", "c:")) for line in changes(at(a), at(b), tmp_path))


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("seen = []\ndef fn(t): seen.append(t)", "seen = [1]\ndef fn(t): seen.append(t)"),
        ("seen = {}\ndef fn(t): seen[t.item] = seen.get(t.item, 0) + 1",
         "seen = {1: 2}\ndef fn(t): seen[t.item] = seen.get(t.item, 0) + 1"),
        ("n = 0\ndef fn(t):\n    global n\n    n += 1", "n = 5\ndef fn(t):\n    global n\n    n += 1"),
        ("class J:\n n = 0\n def __call__(s, t): s.n += 1\nfn = J()",
         "class J:\n n = 4\n def __call__(s, t): s.n += 1\nfn = J()"),
        ("api_key = 'a'\ndef fn(t): return api_key", "api_key = 'b'\ndef fn(t): return api_key"),
        ("import threading\nlock = threading.Lock()\ndef fn(t): lock.acquire()",
         "import threading\nlock = threading.Lock()\ndef fn(t): lock.acquire()"),
        ("class C: pass\nc = C()\ndef fn(t): return c", "class C: pass\nc = C()\ndef fn(t): return c"),
        ("import os\ndef fn(t): return os.environ",
         "import os\nos.environ['NBRUN_TEST'] = '1'\ndef fn(t): return os.environ"),
        ("unused = 1\ndef fn(t): return 1", "unused = 2\ndef fn(t): return 1"),
    ],
)  # fmt: skip
def test_what_is_no_setting(before: str, now: str, tmp_path: Path) -> None:
    assert changes(before, now, tmp_path) == []


def test_a_lambda_on_the_line_of_start_is_known_by_itself(tmp_path: Path) -> None:
    before = "def start(*a, **k): return a[0]\nfn = start(lambda t: {'v': 1}, key=lambda i: i, workers=1)"
    assert changes(before, before.replace("workers=1", "workers=2,\n  replace=True"), tmp_path) == []
    assert changes(before, before.replace("lambda i: i", "lambda i: str(i)"), tmp_path) == []
    assert changes(before, before.replace("'v': 1", "'v': 2"), tmp_path) == ["the code of fn"]


def test_a_function_without_source_is_known_by_its_code() -> None:
    def of(source: str) -> Callable[..., Any]:
        names: dict[str, Any] = {"__name__": "cell"}
        exec(source, names)
        return names["fn"]  # type: ignore[no-any-return]

    record = settings_of(of("def fn(t):\n    return {'v': 1}")).record()
    assert settings_of(of("def fn(t):\n    '''Doc.'''\n    # remark\n    return {'v':   1}")).changes(record) == []
    assert settings_of(of("def fn(t):\n    return {'v': 2}")).changes(record) == ["the code of fn"]


def test_a_source_that_was_edited_since_it_was_loaded_is_not_believed(tmp_path: Path) -> None:
    fn = made("def fn(t):\n    return 1\n", tmp_path)["fn"]
    record = settings_of(fn).record()
    (tmp_path / "cell.py").write_text("def fn(t):\n    return 2\n", encoding="utf-8")
    os.utime(tmp_path / "cell.py", (1, 1))
    assert settings_of(fn).changes(record) == []  # the code that runs is the same


def test_records_are_equal_in_every_process(tmp_path: Path) -> None:
    program = (
        "import json, functools\nfrom nbrun.session.settings import settings_of\n"
        "class C: pass\nNAMES = {'b', 'a', 'c'}\nOBJECT = C()\n"
        "def helper(x): return x in {'p', 'q', 'r'}\n"
        "def fn(t, m=frozenset('xyz')):\n    return helper(t), OBJECT, NAMES, m\n"
        "print(json.dumps(settings_of(functools.partial(fn, m=lambda: 3)).record()))\n"
    )
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    out = {
        subprocess.run(
            [sys.executable, str(tmp_path / "program.py")], capture_output=True, text=True, check=True, timeout=60,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in (1, 2, 3)
    }  # fmt: skip
    assert len(out) == 1


def test_no_value_is_written_to_the_run_record(tmp_path: Path) -> None:
    secret = "hunter2"
    record = settings_of(made(f"WORD = {secret!r}\ndef fn(t): return WORD", tmp_path)["fn"]).record()
    assert "WORD" in record["settings"]["values"]
    assert secret not in json.dumps(record)


def run(path: Path, fn: Any, samples: Any = ONE, **more: Any) -> nbrun.Progress:
    more = {"groups": ["item"], "view": None} | more
    return nbrun.start(samples, fn, path, **more).wait(60)


def test_settings_of_start_belong_to_results(tmp_path: Path) -> None:
    def fn(task: nbrun.Task) -> int:
        return 1

    assert run(tmp_path, fn, settings={"model": "small", "temperature": 0}).message == ""
    assert run(tmp_path, fn, settings={"temperature": 0, "model": "small"}).message == ""
    message = run(tmp_path, fn, settings={"model": "large", "temperature": 0}).message
    assert "1 saved result was made with other settings (model: 'small' → 'large')" in message
    assert 'redo="changed"' in message
    assert run(tmp_path, fn, settings={"model": "large", "temperature": 0}, redo="changed").message == ""
    assert run(tmp_path, fn, settings={"model": "large", "temperature": 0}).message == ""


@pytest.mark.parametrize("settings", [3, "model", [1], {1: 2}, {"a": object()}, {"a": {"b": threading.Lock()}}])
def test_settings_that_no_json_holds_are_an_error_before_anything_is_written(settings: Any, tmp_path: Path) -> None:
    with pytest.raises(nbrun.errors.NbrunError, match="settings"):
        run(tmp_path / "r", lambda t: 1, settings=settings)
    assert not (tmp_path / "r").exists()


def test_records_of_an_older_nbrun_raise_no_alarm(tmp_path: Path) -> None:
    """They hold a digest of the source, in which a comment counts."""

    def fn(task: nbrun.Task) -> int:
        return 1

    run(tmp_path, fn)
    log = tmp_path / ".nbrun" / "runs.log"
    record = orjson.loads(log.read_bytes().split(b"\t")[2])
    for key in ("settings_version", "samples", "tasks"):
        record.pop(key, None)
    record["settings"] = {"function": record["settings"]["function"], "source": "1944d450d53e5c61"}
    record["settings_id"] = "0123456789abcdef"
    log.write_bytes(frame(b"r", orjson.dumps(record)))
    assert run(tmp_path, fn).message == ""


def test_a_change_is_reported_with_the_first_result_and_counted(tmp_path: Path) -> None:
    samples = [{"id": f"s{i:02}", "items": list(range(5))} for i in range(40)]
    run(tmp_path, lambda t: {"v": 1}, samples[:20])
    held = threading.Event()

    def other(task: nbrun.Task) -> dict[str, int]:
        held.wait(60)
        return {"v": 2}

    live = nbrun.start(samples, other, tmp_path, groups=["item"], view=None)
    until(lambda: "100 saved results were made with other settings" in live.progress.message, lambda: live.progress)
    assert live.progress.done == 100
    assert any(note.level == "notice" for note in live.progress.logs)
    held.set()
    live.wait(60)


class Judge:
    def __init__(self, model: str) -> None:
        self.model = model

    def __call__(self, task: nbrun.Task) -> dict[str, Any]:
        HELD.wait(60)
        return {"m": self.model}


HELD = threading.Event()


def test_a_cell_run_again_with_other_settings_says_in_words_what_differs(tmp_path: Path) -> None:
    HELD.clear()
    more: dict[str, Any] = {"groups": ["item"], "view": None}
    live = nbrun.start(ONE, Judge("small"), tmp_path, settings={"t": 0}, **more)
    try:
        assert nbrun.start(ONE, Judge("small"), tmp_path, settings={"t": 0}, **more) is live
        with pytest.raises(RunActiveError) as caught:
            nbrun.start(ONE, functools.partial(Judge("large")), tmp_path, settings={"t": 1}, keep_items=False, **more)
    finally:
        HELD.set()
        live.wait(60)
    text = str(caught.value)
    for line in ("model: 'small' → 'large'", "t: 0 → 1", "keep_items: True → False", "run.stop()", "replace=True"):
        assert line in text
    assert "digest" not in text


def test_a_function_whose_settings_are_none_is_an_error(tmp_path: Path) -> None:
    class Bad:
        settings = 5

        def __call__(self, task: nbrun.Task) -> int:
            return 1

    with pytest.raises(InputError, match=r"fn\.settings"):
        run(tmp_path / "r", Bad())


class Refuses:
    """As a proxy that isn't bound to a request: whatever it is asked, it raises."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"no {name} outside of a request")


class RefusesToIterate(dict[str, int]):
    def items(self) -> Any:
        raise RuntimeError("not now")


class HasNoDict:
    @property
    def __dict__(self) -> Any:
        raise RuntimeError("not now")


@dataclass
class Holds:
    value: object


class Gone:
    pass


ODD: dict[str, Callable[[], object]] = {
    "a proxy that isn't bound": Refuses,
    "a mapping that can't be iterated": lambda: RefusesToIterate(a=1),
    "an object without a dictionary": HasNoDict,
    "a dataclass of a proxy": lambda: Holds(Refuses()),
    "a proxy of what is gone": lambda: weakref.proxy(Gone()),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("carried", ["closure", "attribute", "partial"])
def test_a_value_that_raises_when_it_is_looked_at_is_no_setting(kind: str, carried: str) -> None:
    odd, limit = ODD[kind](), 5

    def fn(task: nbrun.Task) -> bool:
        return odd is task and limit > 4

    class Called:
        def __init__(self) -> None:
            self.odd, self.limit = odd, limit

        def __call__(self, task: nbrun.Task) -> bool:
            return self.odd is task and self.limit > 4

    of = {"closure": fn, "attribute": Called(), "partial": functools.partial(lambda o, n, task: o is task, odd, limit)}
    values = settings_of(of[carried]).record()["settings"]["values"]
    assert len(values) == 1, "the value beside it is a setting as ever"
