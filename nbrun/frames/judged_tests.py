"""`tests=True`: one row a test of each judged solution. Collected while results are read. Any thread."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping
from math import nan

import numpy as np
import pandas as pd

from nbrun import verdicts
from nbrun.frames.rows import Row
from nbrun.frames.table import Array

#: Columns that hold a test's texts: only where they are asked for, since they are most of a result.
OUTPUTS = ("stdin", "expected", "stdout", "stderr")
COLUMNS = ("test", "passed", "test_verdict", "time_s", "return_code")


class TestRows:
    """The tests of the rows that a RowBuilder reads (its listener).

    Args:
        outputs: which of OUTPUTS to keep.
    """

    __test__ = False  # not for pytest

    def __init__(self, outputs: tuple[str, ...] = ()) -> None:
        self._rows, self._test, self._passed = array("q"), array("i"), array("b")
        self._codes: array[int] = array("i")
        self._verdicts: dict[str | None, int] = {None: -1}
        self._time_s, self._return_code = array("d"), array("d")
        self._outputs: dict[str, list[str | None]] = {name: [] for name in outputs}

    def __call__(self, row: int, entry: Row, body: bytes | None) -> None:
        """See rows.Listener."""
        result = entry.get("result")
        tests = result.get("tests") if isinstance(result, dict) else None
        for number, test in enumerate(map(_mapping, tests if isinstance(tests, list) else ())):
            run = _mapping(_mapping(test.get("exec_info")).get("run_result"))
            passed = test.get("passed")
            self._rows.append(row)
            self._test.append(number)
            self._passed.append(int(passed) if isinstance(passed, bool) else -1)
            verdict = verdicts.of({"accepted": passed is True, "tests": [test]})
            self._codes.append(self._verdicts.setdefault(verdict, len(self._verdicts) - 1))
            self._time_s.append(_number(run.get("execution_time")))
            self._return_code.append(_number(run.get("return_code")))
            if self._outputs:
                self._add_outputs(test, run)

    def cut(self, n: int) -> None:
        """See rows.Listener."""
        at = bisect_left(self._rows, n)
        for column in (self._rows, self._test, self._passed, self._codes, self._time_s, self._return_code):
            del column[at:]
        for texts in self._outputs.values():
            del texts[at:]

    def _add_outputs(self, test: Mapping[str, object], run: Mapping[str, object]) -> None:
        info = _mapping(test.get("test_info"))
        texts = {
            "stdin": _mapping(info.get("input")).get("stdin"),
            "expected": _mapping(info.get("output")).get("stdout"),
            "stdout": run.get("stdout"),
            "stderr": run.get("stderr"),
        }
        for name, column in self._outputs.items():
            text = texts[name]
            column.append(text if isinstance(text, str) else None)

    def explode(self, df: pd.DataFrame, rows: Array) -> pd.DataFrame:
        """`df` with one row a test. `rows`: the number that each of its rows had when it was read."""
        of = np.frombuffer(self._rows, "q") if self._rows else np.empty(0, "q")
        place = np.full(int(max(of.max(initial=-1), rows.max(initial=-1))) + 1, -1)
        place[rows] = np.arange(len(rows))
        order = np.flatnonzero(place[of] >= 0)
        order = order[np.argsort(place[of[order]], kind="stable")]
        out = df.take(place[of[order]]).reset_index(drop=True)
        own = [name for name in (*COLUMNS, *self._outputs) if name in out.columns]  # keys of results
        out = out.rename(columns={name: f"result_{name}" for name in own})
        passed = np.array(self._passed, "b")[order]
        numbers = np.array(self._return_code, float)[order]
        out["test"] = pd.array(np.array(self._test, "q")[order], dtype="Int64")
        out["passed"] = pd.arrays.BooleanArray(passed > 0, passed < 0)
        names = [v for v in self._verdicts if v is not None]
        out["test_verdict"] = pd.Categorical.from_codes(
            np.array(self._codes, "i")[order], pd.Index(names, dtype=object)
        )
        times = np.array(self._time_s, float)[order]
        out["time_s"] = pd.arrays.FloatingArray(times, np.isnan(times))
        whole = np.nan_to_num(numbers).astype("q")
        out["return_code"] = pd.arrays.IntegerArray(whole, np.isnan(numbers))
        for name, texts in self._outputs.items():
            out[name] = pd.Series(np.array([*texts, None], object)[:-1][order], index=out.index, dtype=object)
        return out


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else nan
