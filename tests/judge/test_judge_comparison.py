"""The comparison by tokens: what is right, what is near enough, what is not."""

from __future__ import annotations

import pytest

from nbrun.judge import compare_tokens

CASES = [
    ("3", "3", True),
    ("3\n", "  3  \n\n", True),
    ("1 2\n3", "1\n2 3", True),
    ("", "", True),
    ("", " \n", True),
    ("", "x", False),
    ("x", "", False),
    ("1 2", "1", False),
    ("1 2", "1 2 3", False),
    ("1 2", "1 2 ", True),
    ("1 2", "1 2\n\n", True),
    ("YES", "Yes", False),
    ("3", "3.0", False),
    ("3", "3.0000000", False),
    ("10000000", "10000001", False),
    ("3", "03", False),
    ("0.5", "0.500001", True),
    ("0.5", "0.50002", False),
    ("0.5", ".5", True),
    ("1.", "1", True),
    ("2.0", "2", True),
    ("1e3", "1000", True),
    ("1000.0", "1e3", True),
    ("1E-9", "0", True),
    ("-0.0", "0", True),
    ("1000000.0", "1000009", True),
    ("1000000.0", "1000011", False),
    ("0.5", "nan", False),
    ("0.5", "inf", False),
    ("nan", "nan", True),
    ("nan", "NaN", False),
    ("inf", "Infinity", False),
    ("1e400", "1e400", True),
    ("1e400", "2e400", False),
    ("1e400", "5", False),
    ("1.0", "1e400", False),
    ("0.5", "0x1p-1", False),
    ("10.0", "1_0.0", False),
    ("1.2.3", "1.2.30", False),
    ("0.5", "0,5", False),
    ("0.5x", "0.50x", False),
    ("٣.0", "3.0", False),
    ("a\u00a0b", "a b", False),
    ("\x00", "", False),
]


@pytest.mark.parametrize(("expected", "actual", "same"), CASES)
def test_tokens(expected: str, actual: str, same: bool) -> None:
    assert compare_tokens(expected, actual) is same
    assert compare_tokens(expected.encode(), actual.encode()) is same


def test_a_flood_of_output_costs_no_tokens() -> None:
    assert not compare_tokens("1 2", b"1 2" + b" 3" * 1_000_000)


def test_bytes_that_are_no_text() -> None:
    assert compare_tokens(b"\xff 1.0", b"\xff 1")
    assert not compare_tokens("1", b"\xff")


def test_the_tolerance_can_be_chosen() -> None:
    assert compare_tokens("1.0", "1.01", tolerance=0.1)
    assert not compare_tokens("1.0", "1.000001", tolerance=0)
