"""What fn says of itself: the settings that a run record keeps, and how two of them differ. Pure functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from nbrun.errors import FunctionError, InputError
from nbrun.samples import canonical
from nbrun.storage.values import encode, load


def settings_of(fn: Any) -> dict[str, Any]:
    """`fn.settings`, or for a plain function its qualified name and a digest of its source.

    Raises:
        InputError: fn.settings is no mapping that JSON can hold.
    """
    own = getattr(fn, "settings", None)
    if own is None:
        return {"function": _name(fn), "source": _source_digest(fn)}
    if callable(own):
        own = own()
    if not isinstance(own, Mapping):
        raise InputError(f"fn.settings is a {type(own).__name__}; it must be a mapping that JSON can hold.")
    try:
        return dict(load(encode(dict(own))[0]))
    except TypeError as e:
        raise InputError(f"fn.settings can't be stored as JSON: {e}") from None


def settings_id(settings: Mapping[str, Any]) -> str:
    """A digest of settings: equal ones have equal digests."""
    return blake2b(canonical(dict(settings)), digest_size=8).hexdigest()


def _name(fn: Any) -> str:
    if isinstance(fn, functools.partial):
        return f"partial of {_name(fn.func)}"
    name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    return f"{getattr(fn, '__module__', None) or type(fn).__module__}.{name}"


def _source_digest(fn: Any) -> str:
    """A digest of the source; where there is none (python -c), of the compiled code."""
    parts: list[Any] = []
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
        return  # a builtin tells nothing of its arguments
    try:
        signature.bind(object())
    except TypeError as e:
        raise FunctionError(
            f"{_name(fn)}{signature} can't be called with one argument, the task ({e}). "
            "Write it as: def fn(task): ... ; task.item is the item."
        ) from None


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """What differs, a line each: "time_limit_s: 2 -> 4"."""
    out = []
    for name in dict.fromkeys([*theirs, *ours]):
        a, b = theirs.get(name), ours.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            out += [f"{name}.{line}" for line in differences(b, a)]
        elif a != b:
            out.append(f"{name}: {a!r} -> {b!r}")
    return out
