"""The settings that results are made under: what a run record keeps of them, and how two differ. Pure functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbrun.canonical import blake2b, canonical
from nbrun.errors import FunctionError, InputError
from nbrun.results.values import encode, load
from nbrun.session.function_state import ROOT, Code, FunctionState, is_secret, name_of, state_of

#: The version of what a run record says of a function. Without one it is by an older nbrun: see `_source_digest`.
VERSION = 2


@dataclass(frozen=True)
class Settings:
    """What determines a run's results besides the items.

    Attributes:
        own: `fn.settings`; None where fn has none.
        given: `settings=` of start().
        function: the code and the values of a function that has no settings of its own.
    """

    own: Mapping[str, Any] | None
    given: Mapping[str, Any]
    function: FunctionState | None
    _old_digest: str = ""

    def record(self) -> dict[str, Any]:
        """The part of a run record that says it. Of a function's values it holds digests only."""
        settings: dict[str, Any] = dict(self.own or {})
        if self.function is not None:
            settings = {
                "function": self.function.name,
                "code": {name: list(code) for name, code in self.function.code.items()},
                "values": {name: value.digest for name, value in self.function.values.items()},
            }
        out: dict[str, Any] = {"settings": settings, "settings_version": VERSION}
        if self.given:
            out["given_settings"] = dict(self.given)
        return out | {"settings_id": settings_id(settings | ({"given": dict(self.given)} if self.given else {}))}

    def changes(self, record: Mapping[str, Any]) -> list[str]:
        """Return in words what differs from the settings of an earlier run; [] where nothing is known to differ."""
        lines = changed_values(record.get("given_settings") or {}, self.given)
        before = record.get("settings")
        if not isinstance(before, Mapping):
            return lines
        if self.function is None:
            return lines + changed_values(before, self.own or {})
        if record.get("settings_version") != VERSION:
            return lines + self._changes_since_old(before)
        code = before.get("code")
        if not isinstance(code, Mapping):
            return [*lines, f"fn: now {self.function.name}"]
        lines += _code_changes({n: Code(*c) for n, c in code.items()}, self.function.code)
        digests: Mapping[str, str] = before.get("values") or {}
        for name in dict.fromkeys([*digests, *self.function.values]):
            now = self.function.values.get(name)
            if digests.get(name) != (now and now.digest):
                lines.append(f"{name}: now {now.text}" if now is not None else f"{name}: no longer used")
        return lines

    def _changes_since_old(self, before: Mapping[str, Any]) -> list[str]:
        """Of a record that knows the function by a digest of its source, in which comments count."""
        assert self.function is not None
        if "source" not in before or before["source"] == self._old_digest:
            return []
        return [f"the code of {self.function.name}"]

    def changes_in_words(self, earlier: Settings) -> list[str]:
        """The same for two that this process knows: values are named too, "model: 'small' → 'large'"."""
        lines = changed_values(earlier.given, self.given)
        if self.function is None or earlier.function is None:
            if (self.function is None) != (earlier.function is None):
                return [*lines, "fn: another function"]
            return lines + changed_values(earlier.own or {}, self.own or {})
        lines += _code_changes(earlier.function.code, self.function.code)
        a, b = earlier.function.values, self.function.values
        for name in dict.fromkeys([*a, *b]):
            before, now = a.get(name), b.get(name)
            if (before and before.digest) != (now and now.digest):
                lines.append(f"{name}: {before.text if before else 'not used'} → {now.text if now else 'not used'}")
        return lines


def settings_of(fn: Any, given: Mapping[str, Any] | None = None) -> Settings:
    """What `fn` and `settings=` say.

    Raises:
        InputError: fn.settings or `settings=` is no mapping that JSON can hold.
    """
    own = getattr(fn, "settings", None)
    if own is None:
        state = state_of(fn)
        return Settings(None, read_settings(given), state, _source_digest(fn))
    if callable(own):
        own = own()
    return Settings(_as_json(own, "fn.settings"), read_settings(given), None)


def read_settings(given: Any) -> dict[str, Any]:
    """`settings=` -> a mapping as JSON holds it.

    Raises:
        InputError: it is none.
    """
    return {} if given is None else _as_json(given, "settings")


def _as_json(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{name} is a {type(value).__name__}; it must be a mapping that JSON can hold.")
    wrong = [key for key in value if not isinstance(key, str)]
    if wrong:
        raise InputError(f"{name}: the key {wrong[0]!r} is a {type(wrong[0]).__name__}; give texts as names.")
    try:
        parsed = load(encode(dict(value), where=name)[0])
    except (TypeError, ValueError) as e:
        raise InputError(f"{name} can't be stored as JSON: {e}") from None
    assert isinstance(parsed, dict)
    return parsed


def settings_id(settings: Mapping[str, Any]) -> str:
    """A digest of settings: equal ones have equal digests."""
    return blake2b(canonical(dict(settings)), digest_size=8).hexdigest()


def _code_changes(before: Mapping[str, Code], now: Mapping[str, Code]) -> list[str]:
    lines = []
    for name in dict.fromkeys([*before, *now]):
        a, b = before.get(name), now.get(name)
        if a is not None and b is not None:
            if b.differs(a):
                lines.append(f"the code of {name}")
        elif ROOT not in before or ROOT not in now or now[ROOT].python == before[ROOT].python:
            lines.append(f"{name}, a function that fn uses {'now' if a is None else 'no longer'}")
    return lines


def changed_values(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two mappings, a line each: "model: 'small' → 'large'"."""
    out = []
    for name in dict.fromkeys([*before, *now]):
        a, b = before.get(name), now.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            out += [f"{name}.{line}" for line in changed_values(a, b)]
        elif a != b:
            out.append(f"{name}: {_shown(before, name)} → {_shown(now, name)}")
    return out


def _shown(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "not given"
    if is_secret(name):
        return "…"
    text = " ".join(repr(values[name]).split())
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text):,} characters)"


def _source_digest(fn: Any) -> str:
    """The digest by which older versions of nbrun knew a function: of its source, comments included."""
    parts: list[Any] = []
    try:
        while isinstance(fn, functools.partial):
            parts.append([repr(fn.args), repr(fn.keywords)])
            fn = fn.func
        if not (inspect.isfunction(fn) or inspect.ismethod(fn) or inspect.isbuiltin(fn)):
            fn = type(fn)
        try:
            parts.append(inspect.getsource(fn))
        except (OSError, TypeError):
            code = getattr(fn, "__code__", None)
            parts.append([code.co_code, repr(code.co_consts), code.co_names] if code else repr(type(fn)))
        return blake2b(canonical(parts), digest_size=8).hexdigest()
    except Exception:  # a user's __repr__; then it differs, as it did for older versions
        return ""


def is_async(fn: Any) -> bool:
    """Is it an async function, or an object whose call is one?"""
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004


def check_function(fn: Any) -> None:
    """Can fn be called with one task?

    Raises:
        FunctionError: says what to write instead.
    """
    if not callable(fn):
        raise FunctionError(
            f"fn is a {type(fn).__name__}, which can't be called. Give a function of one argument, the task."
        )
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return  # a builtin has no signature to check
    try:
        signature.bind(object())
    except TypeError as e:
        raise FunctionError(
            f"{name_of(fn)}{signature} can't be called with one argument, the task ({e}). "
            "Write it as: def fn(task): ... ; task.item is the item."
        ) from None
