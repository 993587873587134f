"""The shapes in which published data sets write problems, with a module for each shape or family of shapes.

A shape is a table (`Shape`); to add one, write it into a module of its own or of its family, and add it to `SHAPES`.
`nbrun/docs/datasets.md` shows a row of each, and a test judges these rows. Called by the thread that reads samples and
by worker threads; pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from nbrun.judge.datasets.code import BIGCODEBENCH, EVALPLUS, HUMANEVAL, KODCODE, MBPP, TRANSLATED
from nbrun.judge.datasets.contests import CODECONTESTS, COLUMNS, INPUT_OUTPUT, PLUS, XCODEEVAL, O
from nbrun.judge.datasets.livecodebench import LIVECODEBENCH
from nbrun.judge.datasets.open_r1 import CODEFORCES, IOI
from nbrun.judge.datasets.own import OWN
from nbrun.judge.datasets.rewards import REWARDS
from nbrun.judge.datasets.shape import Draft, Shape

#: In this order: the first shape that fits a row reads it. LeetCodeDataset's rows have `input_output` beside test code.
SHAPES: tuple[Shape, ...] = (
    PLUS,
    O,
    IOI,
    CODEFORCES,
    LIVECODEBENCH,
    BIGCODEBENCH,
    TRANSLATED,
    HUMANEVAL,
    INPUT_OUTPUT,
    XCODEEVAL,
    CODECONTESTS,
    KODCODE,
    EVALPLUS,
    MBPP,
    REWARDS,
    COLUMNS,
    OWN,
)

__all__ = ["SHAPES", "Draft", "Shape", "nearest", "shape_of"]


def shape_of(row: Mapping[str, object]) -> Shape | None:
    """Return the shape of a row; None if it has no known shape.

    Example:
        >>> shape_of({"input_output": "{}", "solutions": "[]"}).name
        'APPS, TACO'
    """
    return next((shape for shape in _candidates(tuple(row)) if shape.fits(row)), None)


@lru_cache(256)
def _candidates(columns: tuple[object, ...]) -> tuple[Shape, ...]:
    """Return the shapes that rows with these columns may have; which one depends on the columns that aren't empty."""
    return tuple(shape for shape in SHAPES if any(set(needed) <= set(columns) for needed in shape.needed))


def nearest(columns: Iterable[str]) -> str:
    """Describe the shape that is most similar to these columns, and the columns that it needs, for an error message.

    Example:
        >>> nearest(["question_id", "question_title", "starter_code"])
        'LiveCodeBench, which has its tests in public_test_cases or private_test_cases'
    """
    from difflib import get_close_matches  # only needed for an error message

    found = set(columns)
    unknown = found.difference(*(shape.all_columns for shape in SHAPES))

    def score(shape: Shape) -> tuple[float, bool]:
        telling = shape.all_columns.difference(*(other.all_columns for other in SHAPES if other is not shape))
        close = sum(bool(get_close_matches(name, telling, 1, 0.8)) for name in unknown)
        return len(found & telling) + close / 2, shape is OWN

    shape = max(SHAPES, key=score)
    needs = " or ".join(" and ".join(names) for names in shape.needed[:3])
    return f"{shape.name}, which has its tests in {needs}"
