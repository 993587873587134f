"""The settings that results are made under: what a run record keeps of them, and how two differ.

Where a function has no settings of its own, they are its code and the simple values that it refers to. The code is
known by two digests. One is of its syntax tree without comments, layout, docstrings and annotations; it is taken only
where the source is proven to be that of the running code. The other is of its instructions, which only the same version
of Python can compare. Values are known by name and digest: the run record holds no value, since one of them may be a
password.

Pure functions, called by the thread that starts a run. Of the user's code, only `fn.settings()` is called.
"""

from __future__ import annotations

import ast
import dataclasses
import datetime as dt
import dis
import enum
import functools
import inspect
import linecache
import pathlib
import re
import sys
import sysconfig
import types
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, cast

from nbrun.canonical import blake2b, canonical, is_a
from nbrun.errors import FunctionError, InputError
from nbrun.results.values import encode, load

#: The version of what a run record says of a function. Without one it is by an older nbrun: see `_source_digest`.
VERSION = 2
#: How much is looked at: functions, values, parts of one value, and the size of a source that is parsed.
MAX_FUNCTIONS, MAX_VALUES, MAX_PARTS, MAX_SOURCE_CHARS = 300, 1000, 20_000, 2_000_000
#: Methods that change a container. One that the function itself changes is no setting but a memory of its own.
_MUTATORS = frozenset((
    "add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft", "put", "remove",
    "setdefault", "update",
))  # fmt: skip
#: Names of values that open doors and don't determine results.
_SECRET = re.compile(
    r"(?i)(.*_)?(api_?key|secret(_key)?|password|passwd|credentials?|(api|auth|access|hf|bearer|github)_token)|token"
)
_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
#: The name under which the function itself is listed, whatever it is called.
ROOT = "fn"


@dataclass(frozen=True)
class Settings:
    """What determines a run's results besides the items.

    Attributes:
        own: `fn.settings`; empty where fn has none.
        given: `settings=` of start().
        function: the code and the values of a function that has no settings of its own.
    """

    own: Mapping[str, Any]
    given: Mapping[str, Any]
    function: FunctionState | None
    _old_digest: str = ""

    def record(self) -> dict[str, Any]:
        """Return these settings as a run record holds them: of a function's values only digests."""
        settings = dict(self.own)
        if self.function is not None:
            settings = {
                "function": self.function.name,
                "code": {name: list(code) for name, code in self.function.code.items()},
                "values": self.function.digests,
            }
        out: dict[str, Any] = {"settings": settings, "settings_version": VERSION}
        identity = dict(settings)
        if self.given:
            out["given_settings"] = identity["given"] = dict(self.given)
        return out | {"settings_id": digest_text(canonical(identity))}

    def changes(self, record: Mapping[str, Any]) -> list[str]:
        """Return in words what differs from the settings of an earlier run; [] where nothing is known to differ."""
        lines = changed_values(record.get("given_settings") or {}, self.given)
        before = record.get("settings")
        if not isinstance(before, Mapping):
            return lines
        if self.function is None:
            return lines + changed_values(before, self.own)
        if record.get("settings_version") == VERSION:
            return lines + self.function.changes_since_record(before)
        # by an older nbrun, which knew a function by a digest of its source, in which comments count
        is_known_to_differ = before.get("source", self._old_digest) != self._old_digest
        return [*lines, f"the code of {self.function.name}"] if is_known_to_differ else lines

    def changes_in_words(self, earlier: Settings) -> list[str]:
        """The same for settings that this process knows: values are shown too, "model: 'small' → 'large'"."""
        lines = changed_values(earlier.given, self.given)
        if self.function is None and earlier.function is None:
            return lines + changed_values(earlier.own, self.own)
        if self.function is None or earlier.function is None:
            return [*lines, "fn: another function"]
        return lines + self.function.changes_since(earlier.function)


def settings_of(fn: Any, given: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings that `fn` and `settings=` make.

    Raises:
        InputError: fn.settings or `settings=` is no mapping that JSON can hold.
    """
    own, extra = getattr(fn, "settings", None), {} if given is None else _as_json(given, "settings")
    if own is None:
        return Settings({}, extra, state_of(fn), _source_digest(fn))
    return Settings(_as_json(own() if callable(own) else own, "fn.settings"), extra, None)


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


def changed_values(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what differs between two mappings, a line each: "model: 'small' → 'large'"."""
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
    return "…" if is_secret(name) else value_text(values[name])


def _source_digest(fn: Any) -> str:
    """Return the digest by which older versions of nbrun knew a function: of its source, comments included."""
    parts: list[Any] = []
    try:
        while isinstance(fn, functools.partial):
            parts.append([repr(fn.args), repr(fn.keywords)])
            fn = fn.func
        is_function = inspect.isfunction(fn) or inspect.ismethod(fn) or inspect.isbuiltin(fn)
        parts.append(_source_or_code(fn if is_function else type(fn)))
        return digest_text(canonical(parts))
    except Exception:  # a user's __repr__; then it differs, as it did for older versions
        return ""


def _source_or_code(fn: Any) -> Any:
    try:
        return inspect.getsource(fn)
    except (OSError, TypeError):
        code = getattr(fn, "__code__", None)
        return [code.co_code, repr(code.co_consts), code.co_names] if code else repr(type(fn))


def is_async(fn: Any) -> bool:
    """Return whether it is an async function, or an object whose call is one."""
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004


def check_function(fn: Any) -> None:
    """Raise a FunctionError, which says what to write instead, if fn can't be called with one task."""
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


# ---- the code and the values of a function


class Code(NamedTuple):
    """Digests of one function's code. `tree` is "" where no source is known to be that of the code."""

    tree: str
    instructions: str
    python: str

    def differs(self, other: Code) -> bool:
        """Return whether the two are known to differ; False where nothing can be compared."""
        if self.tree and other.tree:
            return self.tree != other.tree
        return self.python == other.python and self.instructions != other.instructions


class Value(NamedTuple):
    """A simple value: its digest, and how a message shows it."""

    digest: str
    text: str


NOT_USED = Value("", "not used")


@dataclass
class FunctionState:
    """The code and the values of one function, and of those of its module that it uses."""

    name: str
    code: dict[str, Code] = dataclasses.field(default_factory=dict)
    values: dict[str, Value] = dataclasses.field(default_factory=dict)

    @property
    def digests(self) -> dict[str, str]:
        """The digests of the values."""
        return {name: value.digest for name, value in self.values.items()}

    def changes_since(self, earlier: FunctionState) -> list[str]:
        """Return what differs from an earlier function, a line each, with the values."""
        lines = _code_changes(earlier.code, self.code)
        for name in _names_that_differ(earlier.digests, self.digests):
            before, now = earlier.values.get(name, NOT_USED), self.values.get(name, NOT_USED)
            lines.append(f"{name}: {before.text} → {now.text}")
        return lines

    def changes_since_record(self, settings: Mapping[str, Any]) -> list[str]:
        """The same for a function that a run record knows: of its values it has digests only."""
        code = settings.get("code")
        if not isinstance(code, Mapping):
            return [f"fn: now {self.name}"]
        lines = _code_changes({name: Code(*known) for name, known in code.items()}, self.code)
        for name in _names_that_differ(settings.get("values") or {}, self.digests):
            now = self.values.get(name)
            lines.append(f"{name}: no longer used" if now is None else f"{name}: now {now.text}")
        return lines


def _names_that_differ(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the names of values whose digests differ, or that only one of both has."""
    return [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]


def _code_changes(before: Mapping[str, Code], now: Mapping[str, Code]) -> list[str]:
    lines = []
    is_same_python = _is_same_python(before, now)
    for name in dict.fromkeys([*before, *now]):
        if name in before and name in now:
            if now[name].differs(before[name]):
                lines.append(f"the code of {name}")
        elif is_same_python:
            lines.append(f"{name}, a function that fn uses {'no longer' if name in before else 'now'}")
    return lines


def _is_same_python(before: Mapping[str, Code], now: Mapping[str, Code]) -> bool:
    return ROOT not in before or ROOT not in now or now[ROOT].python == before[ROOT].python


def state_of(fn: Any) -> FunctionState:
    """Return what determines the results of a function, a bound method, a partial or a callable object."""
    walk = _Walk(name_of(fn))
    walk.visit_root(fn)
    return walk.finish()


def name_of(fn: Any) -> str:
    """Return the qualified name of a function, or of the object or partial in its place."""
    if isinstance(fn, functools.partial):
        return f"partial of {name_of(fn.func)}"
    name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    return f"{getattr(fn, '__module__', None) or type(fn).__module__}.{name}"


def value_of(value: Any) -> Value | None:
    """Return the digest and the text of a simple value; None if it isn't simple."""
    try:
        data = canonical(_simple(value, [MAX_PARTS]))
    except Exception:  # not simple, too large or deep, or an object's own __iter__ or __getattr__ raises
        return None
    return Value(digest_text(data), value_text(value))


def digest_text(data: bytes) -> str:
    """Return 16 hexadecimal digits, as run records hold them."""
    return blake2b(data, digest_size=8).hexdigest()


def value_text(value: Any) -> str:
    """Return a value as a message shows it."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a user's __repr__
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text):,} characters)"


class _NotSimpleError(Exception):
    """A value that has no settings in it."""


def _simple(value: Any, left: list[int]) -> Any:
    """Return the value as plain data. Raise _NotSimpleError if it holds something else.

    Args:
        left: how many parts may still be looked at; counted down.
    """
    _count_down(left, 1)
    for fits, form in _FORMS:
        if fits(value):
            return form(value, left)
    raise _NotSimpleError


def _count_down(left: list[int], parts: int) -> None:
    left[0] -= parts
    if left[0] < 0:
        raise _NotSimpleError


def _fields(value: Any, left: list[int]) -> Any:
    fields = {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value) if not is_secret(f.name)}
    return [type(value).__qualname__, _simple(fields, left)]


def _items(value: Mapping[Any, Any], left: list[int]) -> Any:
    pairs = sorted(value.items(), key=lambda pair: repr(pair[0]))
    return [[_simple(k, left), _simple(v, left)] for k, v in pairs]


def _array(value: Any, left: list[int]) -> Any:
    _count_down(left, getattr(value, "size", 1))
    return [str(value.dtype), list(getattr(value, "shape", ())), _simple(value.tolist(), left)]


def _is_array(value: Any) -> bool:
    return type(value).__module__ == "numpy" and hasattr(value, "dtype") and hasattr(value, "tolist")


def _of(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


_PLAIN = _of(types.NoneType, bool, int, float, str, bytes, dt.date, dt.time, pathlib.PurePath)
#: Kinds of values -> their plain data; the first that fits counts.
_FORMS: tuple[tuple[Callable[[Any], bool], Callable[[Any, list[int]], Any]], ...] = (
    (_of(enum.Enum), lambda value, left: [type(value).__qualname__, value.name]),
    (_PLAIN, lambda value, left: value),
    (_of(complex, dt.timedelta, range, slice), lambda value, left: [type(value).__name__, repr(value)]),
    (_of(re.Pattern), lambda value, left: ["pattern", value.pattern, value.flags]),
    (_of(list, tuple), lambda value, left: [_simple(v, left) for v in value]),
    (_of(Set), lambda value, left: {canonical(_simple(v, left)) for v in value}),
    (_of(Mapping), _items),
    (_of(types.SimpleNamespace), lambda value, left: _simple(vars(value), left)),
    (lambda value: is_a(value, "decimal", "Decimal"), lambda value, left: [type(value).__name__, repr(value)]),
    (lambda value: is_a(value, "argparse", "Namespace"), lambda value, left: _simple(vars(value), left)),
    (lambda value: dataclasses.is_dataclass(value) and not isinstance(value, type), _fields),
    (_is_array, _array),
)


def is_secret(name: str) -> bool:
    """Return whether a value of that name is a key or a password."""
    return _SECRET.fullmatch(name) is not None


# ---- the walk


class _Walk:
    """Collects code and values, starting at a function. Values are judged last: what the code changes is no setting."""

    def __init__(self, name: str) -> None:
        self._state = FunctionState(name)
        self._home: set[str] = set()  # the modules whose functions are followed
        self._seen: dict[int, Any] = {}  # by id; what is kept alive leaves its id to no other object
        self._names: set[str] = set()  # attributes that any of the code mentions
        self._changed: set[str] = set()  # names of attributes and variables that the code itself changes
        self._found: list[tuple[str, str, Any]] = []  # owner, name, value
        self._objects: list[tuple[str, Any]] = []  # objects and classes whose attributes are followed

    def _is_new(self, thing: Any) -> bool:
        if id(thing) in self._seen:
            return False
        self._seen[id(thing)] = thing
        return True

    def visit_root(self, fn: Any) -> None:
        """Take the function apart into code and values."""
        while isinstance(fn, functools.partial):
            for number, value in enumerate(fn.args, 1):
                self._reach(ROOT, f"argument {number}", value, direct=True)
            for name, value in fn.keywords.items():
                self._reach(ROOT, name, value, direct=True)
            fn = fn.func
        self._home |= {_home_of(fn), _home_of(inspect.unwrap(fn))} - {"", "builtins", "functools"}
        self._direct(ROOT, fn)

    def _direct(self, name: str, fn: Any) -> None:
        """Take a callable apart that is called or passed by name, no matter in which module it was written."""
        while isinstance(fn, functools.partial):
            self._reach(name, f"{name} arguments", [list(fn.args), fn.keywords], direct=False)
            fn = fn.func
        if isinstance(fn, types.MethodType):
            self._object(name, fn.__self__)
            fn = fn.__func__
        if isinstance(fn, types.FunctionType):
            self._function(name, fn)
            wrapped = getattr(fn, "__wrapped__", None)
            if wrapped is not None:
                self._direct(f"{name} (decorated)", wrapped)
        elif callable(wrapped := getattr(fn, "__wrapped__", None)):  # a cache around it, for example
            self._direct(name, wrapped)
        elif not isinstance(fn, (type, types.BuiltinFunctionType)):
            self._object(name, fn)
            self._call(name, fn)

    def _call(self, name: str, value: Any) -> None:
        """Follow what runs when an object is called."""
        call = getattr(type(value), "__call__", None)  # noqa: B004 - the function is wanted, not whether there is one
        if isinstance(call, types.FunctionType):
            self._function(name, call)

    def _function(self, name: str, fn: types.FunctionType) -> None:
        if len(self._state.code) >= MAX_FUNCTIONS or not self._is_new(fn.__code__):
            return
        is_followed = fn.__globals__.get("__name__") in self._home or name == ROOT
        if is_followed:
            name = self._add_code(name, fn)
        for variable, value in _bound_values(fn):
            self._reach(name, variable, value, direct=True)
        if is_followed:
            for code in _all_codes(fn.__code__):
                self._look_at(name, code, fn.__globals__)

    def _add_code(self, name: str, fn: types.FunctionType) -> str:
        """Add a function's code under a name that no other has. Return that."""
        while name in self._state.code:
            name += "'"
        self._state.code[name] = code_of(fn)
        return name

    def _look_at(self, name: str, code: types.CodeType, variables: Mapping[str, Any]) -> None:
        """Follow the globals that code mentions, and record the names of attributes."""
        loaded = ""  # the global that the instruction before loads
        for i in dis.get_instructions(code):
            is_global = i.opname in ("LOAD_GLOBAL", "LOAD_NAME")
            if is_global and i.argval in variables:
                self._reach(name, i.argval, variables[i.argval], direct=False)
            elif i.opname in ("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR", "LOAD_SUPER_ATTR"):
                self._names.add(i.argval)
                module = variables.get(loaded)
                if isinstance(module, types.ModuleType) and _is_users(module):
                    self._reach(name, f"{loaded}.{i.argval}", vars(module).get(i.argval), direct=False)
            loaded = i.argval if is_global else ""
        self._changed |= _changed_in(code)

    def _reach(self, owner: str, name: str, value: Any, *, direct: bool) -> None:
        """Follow a value to which the function called `owner` refers, unless it can't be looked at."""
        with suppress(Exception):  # of the user's object: a proxy that isn't bound raises whatever is asked
            self._follow(owner, name, value, direct=direct)

    def _follow(self, owner: str, name: str, value: Any, *, direct: bool) -> None:
        if isinstance(value, types.ModuleType) or id(value) in self._seen:
            return
        if isinstance(value, functools.partial):
            self._direct(name, value)
        elif _is_function(value):
            if direct or _module_of(inspect.unwrap(value)) in self._home:
                self._direct(name, value)
        elif isinstance(value, type):
            self._object(name, value)
        elif self._has_attributes_to_follow(value):
            self._object(name, value)
            self._call(f"{name}()", value)
        elif len(self._found) < MAX_VALUES:
            self._found.append((owner, name, value))

    def _has_attributes_to_follow(self, value: Any) -> bool:
        """Return whether an object is of a class of the followed modules, and no simple value itself."""
        is_own = type(value).__module__ in self._home
        return is_own and not isinstance(value, enum.Enum) and value_of(value) is None

    def _object(self, name: str, value: Any) -> None:
        """Record a class, or an object and its class: their attributes are followed once all names are known."""
        if isinstance(value, type):
            if value.__module__ in self._home:
                self._record(name, value)
        elif not isinstance(value, types.ModuleType):
            self._record(name, value)
            self._record(type(value).__qualname__, type(value))

    def _record(self, name: str, owner: Any) -> None:
        if self._is_new(owner):
            self._objects.append((name, owner))

    def finish(self) -> FunctionState:
        """Follow methods and attributes of objects until nothing new turns up, then name the values."""
        done: set[tuple[int, str]] = set()
        before = -1
        while before != len(done):
            before = len(done)
            for name, owner in list(self._objects):
                self._follow_attributes(name, owner, done)
        for owner, name, value in self._found:
            self._name_value(owner, name, value)
        return self._state

    def _follow_attributes(self, name: str, owner: Any, done: set[tuple[int, str]]) -> None:
        """Follow the attributes of an object or a class that are not among the `done`, and add them there."""
        for attribute, value in _attributes(owner, self._home, self._names):
            if (id(owner), attribute) in done or len(done) > 10 * MAX_VALUES:
                continue
            done.add((id(owner), attribute))
            if isinstance(owner, type):
                self._method(f"{name}.{attribute}", value)
            else:
                self._reach(name, attribute, value, direct=False)

    def _name_value(self, owner: str, name: str, value: Any) -> None:
        """Add a value, unless it is secret, changed by the code or not simple, under a name that no other has."""
        short = name.rpartition(".")[2]
        is_changed = short in self._changed and not isinstance(value, (str, bytes))
        if is_secret(short) or is_changed or (found := value_of(value)) is None:
            return
        key = name
        while self._state.values.get(key, found).digest != found.digest:
            key = f"{owner}.{key}" if key == name else f"{key}'"
        self._state.values[key] = found

    def _method(self, name: str, value: Any) -> None:
        if isinstance(value, (staticmethod, classmethod)):
            value = value.__func__
        if isinstance(value, property):
            value = value.fget
        if isinstance(value, functools.cached_property):
            value = value.func
        if isinstance(value, types.FunctionType):
            self._function(name, value)
        elif not callable(value):
            self._reach(name.rpartition(".")[0], name.rpartition(".")[2], value, direct=False)


def _is_function(value: Any) -> bool:
    return isinstance(value, (types.FunctionType, types.MethodType)) or hasattr(value, "__wrapped__")


def _module_of(fn: Any) -> str | None:
    """Return the name of the module in which a function or method was written; None for any other object."""
    return getattr(getattr(fn, "__func__", fn), "__globals__", {}).get("__name__")


def _home_of(fn: Any) -> str:
    """Return the name of the module in which a function or the class of a callable object was written; "" for none."""
    return _module_of(fn) or getattr(type(fn), "__module__", None) or ""


def _bound_values(fn: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the values that a function carries along: of its closure, and the defaults of its parameters."""
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=False):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not bound yet
            continue
    positional, defaults = fn.__code__.co_varnames[: fn.__code__.co_argcount], fn.__defaults__ or ()
    yield from zip(positional[len(positional) - len(defaults) :], defaults, strict=True)
    yield from (fn.__kwdefaults__ or {}).items()


def _attributes(owner: Any, home: set[str], names: set[str]) -> list[tuple[str, Any]]:
    """Return the attributes of an object or a class that the code mentions; all of them if other code may use them."""
    if isinstance(owner, type):
        return _members(owner, home, names)
    is_all = not home.issuperset(kind.__module__ for kind in type(owner).__mro__[:-1])  # the last one is object
    try:
        held = _held_by(owner)
    except Exception:  # a user's __getattr__
        return []
    return [(name, value) for name, value in held.items() if isinstance(name, str) and (is_all or name in names)]


def _members(kind: type, home: set[str], names: set[str]) -> list[tuple[str, Any]]:
    """Return the attributes of a class and its bases that the code mentions or that calls of it use."""
    called = names | {"__init__", "__call__", "__post_init__", "__getattr__"}
    members = chain.from_iterable(vars(base).items() for base in kind.__mro__ if base.__module__ in home)
    return [member for member in members if member[0] in called]


def _held_by(owner: Any) -> dict[Any, Any]:
    """Return the values in an object's slots and in its dictionary, by name."""
    slots = [vars(kind).get("__slots__", ()) for kind in type(owner).__mro__]
    names = chain.from_iterable((s,) if isinstance(s, str) else s for s in slots)
    found = {n: getattr(owner, n) for n in names if n not in ("__dict__", "__weakref__") and hasattr(owner, n)}
    return found | getattr(owner, "__dict__", {})


@functools.cache
def _library_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib") if name in paths)


def _is_users(module: types.ModuleType) -> bool:
    """Return whether a module is the user's own, not Python's and not installed."""
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and not file.startswith(_library_folders())


# ---- code


def code_of(fn: types.FunctionType) -> Code:
    """Return the digests of a function's code."""
    instructions = digest_text(canonical(_instructions(fn.__code__)))
    node = _node_of(fn)
    tree = "" if node is None else digest_text(_dump(node, _LEFT_OUT | {"name"}).encode("utf-8", "surrogatepass"))
    return Code(tree, instructions, _PYTHON)


def _all_codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _all_codes(const)


_SKIPPED = frozenset(("CACHE", "NOP", "RESUME", "EXTENDED_ARG", "PRECALL", "NOT_TAKEN"))


def _instructions(code: types.CodeType) -> list[Any]:
    """Return instructions with constants by value and jumps by number, without lines, addresses and docstrings."""
    found = _effective(code)
    offsets = sorted(i.offset for i in found)
    return [[i.opname, _plain_operand(i, offsets)] for i in found]


def _effective(code: types.CodeType) -> list[dis.Instruction]:
    """Return the instructions that do something."""
    return [i for i in dis.get_instructions(code) if i.opname not in _SKIPPED]


def _plain_operand(i: dis.Instruction, offsets: list[int]) -> Any:
    """Return the operand of an instruction; `offsets` are the places of all instructions, to which jumps lead."""
    value = i.argval
    if isinstance(value, types.CodeType):
        return _instructions(value)
    if i.opcode in dis.hasjabs or i.opcode in dis.hasjrel:
        return bisect_left(offsets, value)
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    return value if isinstance(value, (str, int, float, bytes, type(None))) else repr(value)


_ASSIGNMENTS = frozenset(("STORE_GLOBAL", "DELETE_GLOBAL", "DELETE_ATTR"))
_CONSTRUCTORS = ("__init__", "__post_init__", "__new__")


def _changed_in(code: types.CodeType) -> set[str]:
    """Return the names of variables and attributes to which this code assigns, or whose contents it changes."""
    out: set[str] = set()
    found = _effective(code)
    assignments = _ASSIGNMENTS if code.co_name in _CONSTRUCTORS else _ASSIGNMENTS | {"STORE_ATTR"}
    for at, i in enumerate(found):
        if i.opname in assignments or (i.opname == "STORE_DEREF" and i.argval in code.co_freevars):
            out.add(i.argval)
        elif i.opname in ("LOAD_ATTR", "LOAD_METHOD") and i.argval in _MUTATORS:
            out |= _name_loaded(found[at - 1])
        elif i.opname in ("STORE_SUBSCR", "DELETE_SUBSCR"):
            out |= _name_loaded(_container(found, at))
    return out


def _container(found: list[dis.Instruction], at: int) -> dis.Instruction | None:
    """Return the instruction that loads the container of the subscript that `found[at]` assigns to: below the key."""
    wanted = 1
    for k in range(at - 1, -1, -1):
        i = found[k]
        try:
            wanted -= dis.stack_effect(i.opcode, i.arg if i.opcode >= dis.HAVE_ARGUMENT else None, jump=False)
        except ValueError:
            return None
        if wanted <= 0:
            return next((b for b in reversed(found[:k]) if b.opname not in ("COPY", "SWAP")), None)
    return None


def _name_loaded(i: dis.Instruction | None) -> set[str]:
    loads = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_ATTR")
    return {i.argval} if i is not None and i.opname in loads else set()


# ---- source


_FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


class _Source(NamedTuple):
    """A file's functions and lambdas, outer ones before inner ones, and all code that it gives."""

    functions: list[_FunctionNode]
    lambdas: list[ast.Lambda]
    codes: list[types.CodeType]


@functools.lru_cache(maxsize=64)
def _parsed(filename: str, source: str) -> _Source:
    """Return what is in a file; nothing where it doesn't compile."""
    try:
        tree = ast.parse(source)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # as in a notebook's cells
        codes = list(_all_codes(compile(source, filename, "exec", flags=flags, dont_inherit=True)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _Source([], [], [])
    nodes = list(ast.walk(tree))
    functions = [node for node in nodes if isinstance(node, _FunctionNode)]
    return _Source(functions, [node for node in nodes if isinstance(node, ast.Lambda)], codes)


def _node_of(fn: types.FunctionType) -> ast.AST | None:
    """Return the syntax tree of a function, if the present source compiles to exactly the code that runs."""
    code = fn.__code__
    parsed = _parsed(code.co_filename, _source_of(fn))
    if not any(_is_same(code, c) for c in parsed.codes):
        return None
    if code.co_name == "<lambda>":
        return _lambda_of(code, parsed.lambdas)
    found = [node for node in parsed.functions if _begins_at(node, code)]
    return found[0] if len(found) == 1 else None


def _lambda_of(code: types.CodeType, lambdas: list[ast.Lambda]) -> ast.Lambda | None:
    """Return the innermost lambda around some code."""
    first, last = _lines(code)
    around = [node for node in lambdas if _holds(node, first, last)]
    return around[-1] if around else None


def _source_of(fn: types.FunctionType) -> str:
    """Return the present source of the file or of the notebook's cell that a function is from; "" if it is too long."""
    filename = fn.__code__.co_filename
    if not filename.startswith("<"):
        linecache.checkcache(filename)
    source = "".join(linecache.getlines(filename, fn.__globals__))
    return source if len(source) <= MAX_SOURCE_CHARS else ""


def _holds(node: ast.Lambda, first: tuple[int, int], last: tuple[int, int]) -> bool:
    """Return whether all of some code, from its first to its last place, is in a lambda's body."""
    body = node.body
    end = (body.end_lineno or 0, body.end_col_offset or 0)
    return (body.lineno, body.col_offset) <= first and last <= end


def _begins_at(node: _FunctionNode, code: types.CodeType) -> bool:
    """Return whether a function has the name and the first line, with its decorators, of some code."""
    line = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return node.name == code.co_name and line == code.co_firstlineno


def _lines(code: types.CodeType) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return where the code begins and ends in its file: (line, column in bytes)."""
    known = [cast("tuple[int, int, int, int]", p) for p in code.co_positions() if None not in p]
    places = [p for p in known if p[3]]  # the first instruction has no width
    if not places:
        return (code.co_firstlineno, 0), (code.co_firstlineno, 0)
    return min((line, column) for line, _, column, _ in places), max((line, column) for _, line, _, column in places)


def _is_same(a: types.CodeType, b: types.CodeType) -> bool:
    return (
        a.co_name == b.co_name
        and a.co_firstlineno == b.co_firstlineno
        and a.co_code == b.co_code
        and a.co_names == b.co_names
        and list(map(_const, a.co_consts)) == list(map(_const, b.co_consts))
    )


def _const(value: Any) -> str:
    if isinstance(value, types.CodeType):
        return value.co_name
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


#: What a syntax tree holds that determines no result.
_LEFT_OUT = frozenset(("ctx", "kind", "type_comment", "annotation", "returns", "type_params", "simple"))


def _dump(node: Any, left_out: frozenset[str] = _LEFT_OUT) -> str:
    """Return a syntax tree as text: the same in every version of Python that has the same syntax."""
    if isinstance(node, list):
        return "[" + ",".join(map(_dump, node)) + "]"
    if not isinstance(node, ast.AST):
        return f"{type(node).__name__}:{node!r}"
    parts = [f"{name}={_dump(value)}" for name, value in _fields_that_count(node, left_out).items()]
    if isinstance(node, ast.Constant) and node.value is None:
        parts.append("None")
    return f"{type(node).__name__}({','.join(parts)})"


def _fields_that_count(node: ast.AST, left_out: frozenset[str]) -> dict[str, Any]:
    """Return the fields of a node that say something, the body without its docstring."""
    fields = {k: v for k, v in ast.iter_fields(node) if k not in left_out and v not in (None, [])}
    if isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = fields["body"][1:]
    return fields


_WITH_DOCSTRING = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
