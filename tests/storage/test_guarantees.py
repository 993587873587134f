"""The page of guarantees names tests that exist."""

import re
from pathlib import Path

import nbrun

HERE = Path(__file__).parent
PAGE = Path(nbrun.__file__).parent / "docs" / "guarantees.md"


def test_every_test_that_is_named_exists():
    file, named = None, 0
    for path, name in re.findall(r"`((?:\.\./(?:\w+/)?)?\w+\.py)?::(\w+)`", PAGE.read_text()):
        file = HERE / path if path else file
        assert re.search(rf"^(def |class |){name}\b", file.read_text(), re.MULTILINE), f"{file}::{name}"
        named += 1
    assert named > 50
