"""Every example in a docstring of the judge runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import nbrun.judge
import nbrun.judge.fusion
from nbrun import verdicts

FOUND = (f"nbrun.judge.{module.name}" for module in pkgutil.iter_modules(nbrun.judge.__path__))
POOL = (f"nbrun.judge.fusion.{module.name}" for module in pkgutil.iter_modules(nbrun.judge.fusion.__path__))
MODULES = [verdicts.__name__, "nbrun.judge", *FOUND, *POOL]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
