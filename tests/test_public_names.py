"""The exported names and their signatures don't change by accident.

After an intended change, `python -m tests.test_public_names` writes tests/data/public_names.txt again.
"""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import nbrun

KEPT = Path(__file__).parent / "data" / "public_names.txt"
RUN = {
    "add_done_callback", "errors", "panel", "pause", "progress", "results", "resume", "retry_errors", "stop", "wait",
    "workers",
}  # fmt: skip


def _signature(value: object) -> str:
    try:
        return str(inspect.signature(value)).replace("'", "")  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""


def _members(name: str, cls: type) -> list[str]:
    if dataclasses.is_dataclass(cls):
        names = [f.name for f in dataclasses.fields(cls) if not f.name.startswith("_")]
    else:
        names = []
    names += [n for n in dir(cls) if not n.startswith("_") and n not in names and n not in dir(Exception)]
    lines = []
    for member in names:
        value = inspect.getattr_static(cls, member, None)
        lines.append(f"{name}.{member}{_signature(value) if inspect.isfunction(value) else ''}")
    return lines


def public_names() -> str:
    lines = []
    for name in sorted(nbrun.__all__):
        value = getattr(nbrun, name)
        if inspect.isclass(value):
            made_by_users = value in (nbrun.Retry, nbrun.RetryPolicy)
            lines += [f"{name}{_signature(value) if made_by_users else ''}", *_members(name, value)]
        elif inspect.isfunction(value):
            lines.append(f"{name}{_signature(value)}")
        else:
            lines.append(name)
    for name, value in sorted(vars(nbrun.errors).items()):
        if inspect.isclass(value) and issubclass(value, BaseException):
            lines.append(f"errors.{name}({', '.join(b.__name__ for b in value.__bases__)})")
    return "\n".join(lines) + "\n"


def test_exported_names_and_signatures_are_those_that_were_agreed_on() -> None:
    assert public_names() == KEPT.read_text(encoding="utf-8")


def test_a_run_shows_what_the_contract_lists_and_no_more() -> None:
    assert {n for n in dir(nbrun.Run) if not n.startswith("_")} == RUN


def test_defaults_are_short_where_a_signature_is_shown() -> None:
    assert "retry: RetryPolicy | None = RetryPolicy()" in public_names()
    assert repr(nbrun.RetryPolicy(attempts=5, never=(KeyError,))) == "RetryPolicy(attempts=5, never=(KeyError,))"


if __name__ == "__main__":
    KEPT.write_text(public_names(), encoding="utf-8")
