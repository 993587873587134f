"""Select the tests that run: by default those that this machine can run in a few minutes, with --everything all.

    python -m pytest                  skips long tests, and tests that need a program or package that isn't installed
    python -m pytest --everything     runs all; a test that is skipped counts as failed

Marks: `needs("g++", "chromium", "distributed", ...)` names programs and packages; `long` is for kills, power cuts,
browsers and clusters, which take minutes. One line at the end counts the skipped tests and says how to install what
they need.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbrun.tuning import TUNING

#: A program -> what installs it on Debian.
PROGRAMS = {
    "g++": "g++",
    "gcc": "gcc",
    "javac": "default-jdk-headless",
    "bwrap": "bubblewrap",
    "chromium": "chromium",
}
EXTRA = "pip install -e '.[test-all]'"
LONG = "long"
#: A test may be skipped under --everything if its reason contains one of these: no package can change them.
ALLOWED_SKIPS = (
    "can't be mounted here",  # in a container without the right to mount; the CI's machine may have it
    "this ipykernel is older than 7",  # the newest one is installed there, an old one only by hand
    "solutions need it",  # a language that judging knows and that no test needs: Kotlin, Go, PyPy
    "NBRUN_AXE names no axe.min.js",  # npm brings it, which is no part of a Python project's CI
    "an owner may execute it",  # that difference exists for root alone
)


def is_here(name: str) -> bool:
    """Return whether that program or package is installed."""
    if name == "chromium" and any(Path.home().glob(".cache/ms-playwright/chromium-*")):
        return True  # the one that `playwright install chromium` brings
    if name in PROGRAMS:
        return shutil.which(name) is not None
    return importlib.util.find_spec(name) is not None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--everything", action="store_true", help="run long tests, too; a skipped test counts as failed")


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # `pytest &` in a script: children would inherit that
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "needs(*names): programs and packages without which the test can't run")
    config.addinivalue_line("markers", f"{LONG}: takes long; runs with --everything only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    everything = config.getoption("--everything")
    for item in items:
        missing = sorted({n for mark in item.iter_markers("needs") for n in mark.args if not is_here(n)})
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(missing)}"))
        elif not everything and item.get_closest_marker(LONG):
            item.add_marker(pytest.mark.skip(reason=LONG))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: pytest.TestReport = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.config.getoption("--everything"):
        reason = _reason(report)
        if not any(allowed in reason for allowed in ALLOWED_SKIPS):
            report.outcome = "failed"
            report.longrepr = f"skipped, which --everything forbids: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report: pytest.CollectReport = yield
    if report.skipped and collector.config.getoption("--everything"):  # a module whose imports are missing
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} was skipped, which --everything forbids: {_reason(report)}"
    return report


@pytest.fixture
def tuning(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set numbers of nbrun/tuning.py until the test ends: `tuning(segment_bytes=900, group_s=0.0)`."""

    def change(**values: float) -> None:
        for name, value in values.items():
            monkeypatch.setattr(TUNING, name, value)  # AttributeError: there is no such number

    return change


class _Opened:
    """What this process opens and lists while a test wants to know; Python has no way to remove an audit hook."""

    paths: list[str] | None = None
    has_hook = False

    @classmethod
    def hear(cls, event: str, args: tuple[Any, ...]) -> None:
        if cls.paths is not None and event in ("open", "os.scandir") and isinstance(args[0], (str, os.PathLike)):
            cls.paths.append(os.fspath(args[0]))


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Paths of the files that this process has opened and of the folders that it has listed so far."""
    if not _Opened.has_hook:
        sys.addaudithook(_Opened.hear)
        _Opened.has_hook = True
    _Opened.paths = []
    yield _Opened.paths
    _Opened.paths = None


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    found = report.longrepr
    return str(found[2] if isinstance(found, tuple) else found).removeprefix("Skipped: ")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", []))
    if not reasons:
        return
    needed = Counter[str]()
    for reason, n in reasons.items():
        if reason.startswith("needs "):
            for name in reason.removeprefix("needs ").split(", "):
                needed[name] += n
    parts = [f"{reasons[LONG]} are long (python -m pytest --everything)"] if reasons[LONG] else []
    programs = [name for name, _ in needed.most_common() if name in PROGRAMS]
    packages = [name for name, _ in needed.most_common() if name not in PROGRAMS]
    if programs:
        debian = " ".join(sorted({PROGRAMS[name] for name in programs}))
        parts.append(f"{_counts(programs, needed)} (apt install {debian})")
    if packages:
        parts.append(f"{_counts(packages, needed)} ({EXTRA})")
    if n := sum(count for reason, count in reasons.items() if reason != LONG and not reason.startswith("needs ")):
        parts.append(f"{n} for other reasons (-rs lists them)")
    terminalreporter.write_line(f"Not run here: {reasons.total()} tests. {'; '.join(parts)}.")


def _counts(names: list[str], needed: Counter[str]) -> str:
    return f"need {', '.join(f'{name} ({needed[name]})' for name in names)}"
