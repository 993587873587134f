"""What tasks print and log, kept for each task: for its entry, for views, and so that it never lands in another cell.

While a run is active, `sys.stdout` and `sys.stderr` are properties. Outside of tasks they are the usual streams. Inside
a task they are streams that know which task writes, no matter what other threads have set (`redirect_stdout`,
`capture_output`, a test's `capsys`); a redirection that a task makes applies to this task only. `print` looks `stdout`
up in `sys` without asking the property, so it finds a stream that decides at each write. What threads print that a task
starts counts as the task's.

The same holds for how warnings are shown: `warnings.catch_warnings()` replaces that for the whole process, so a block
in another thread would otherwise take a task's warnings, and a block around `start()` would undo what the run set up.

Threads: everything here may be called in any thread. `_lock` protects the count of active runs; each RunOutput has a
lock of its own.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
import time
import types
import warnings
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from contextvars import ContextVar, Token
from typing import Any, NamedTuple, Protocol, TextIO

#: How many bytes of a task's output are kept, and of how many tasks: the last ones of each.
TAIL_BYTES, TAILS = 4096, 1000
#: How many lines of one task are sent from a worker process to the kernel's log: the last ones.
TASK_LINES = 100
NAMES = ("stdout", "stderr")
Key = tuple[str, str, int]


class Task(Protocol):
    """The part of model.Task that is used here."""

    sample_id: str
    group: str
    index: int


def _key(task: Task) -> Key:
    return task.sample_id, task.group, task.index


class Writer(NamedTuple):
    """Who writes: a task of a run, or, if `task` is None, the thread that reads the run's samples."""

    output: RunOutput
    task: Task | None

    def writer(self) -> Writer | None:
        """Return itself, as a WriterSource does."""
        return self


class WriterSource(Protocol):
    """Knows who writes in a thread or a coroutine."""

    def writer(self) -> Writer | None:
        """Return who writes now, or None if no task is running."""


class _Replacement(NamedTuple):
    """What a task has put in the place of a stream or of a hook of `warnings`."""

    task: Task | None
    value: Any


_writer_source: ContextVar[WriterSource | None] = ContextVar("nbrun_writer_source", default=None)
#: Replacements by the name of what is replaced.
_redirected: ContextVar[dict[str, _Replacement] | None] = ContextVar("nbrun_redirected", default=None)


def set_writer(source: WriterSource | None) -> Token[WriterSource | None]:
    """Set who writes in this thread or coroutine from now on. The token is for `reset_writer`."""
    return _writer_source.set(source)


def reset_writer(token: Token[WriterSource | None]) -> None:
    """Undo `set_writer`, in the same thread."""
    _writer_source.reset(token)


def current_writer() -> Writer | None:
    """Return who writes in this thread or coroutine, or None outside of tasks."""
    source = _writer_source.get()
    return None if source is None else source.writer()


class _Tail:
    """The end of one task's output. A line that is overwritten, such as a progress bar's, is kept in its last form."""

    __slots__ = ("_lines", "_open", "_size")

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._size = 0
        self._open: dict[str, str] = dict.fromkeys(NAMES, "")

    def add(self, stream: str, text: str) -> list[str]:
        """Add what was written, and return the lines that it completes."""
        *complete, last = (self._open[stream] + text).split("\n")
        self._open[stream] = _overwritten(last)[-TAIL_BYTES:]
        lines = list(map(_overwritten, complete))
        self._lines += lines
        self._size += sum(map(len, lines)) + len(lines)
        while self._size > 2 * TAIL_BYTES and len(self._lines) > 1:
            self._size -= len(self._lines.pop(0)) + 1
        return lines

    def end_lines(self) -> list[tuple[str, str]]:
        """End incomplete lines, since the task has ended. Return each with the name of its stream."""
        rest = [(name, line) for name, line in self._open.items() if line]
        for name, _ in rest:
            self.add(name, "\n")
        return rest

    @property
    def is_open(self) -> bool:
        """Whether there is an incomplete line."""
        return any(self._open.values())

    def text(self) -> str:
        """Return the last TAIL_BYTES of the output."""
        text = "".join(f"{line}\n" for line in self._lines) + "".join(self._open.values())
        data = text.encode("utf-8", "replace")
        return text if len(data) <= TAIL_BYTES else data[-TAIL_BYTES:].decode("utf-8", "ignore")


def _overwritten(line: str) -> str:
    """Return a line as a terminal shows it at the end: what follows the last carriage return."""
    if "\r" not in line:
        return line
    return next((part for part in reversed(line.split("\r")) if part.strip()), "")


class RunOutput:
    """The output of one run's tasks.

    Args:
        note: keeps a line for the views: the time, "stdout", "stderr" or a log level, the line.

    Attributes:
        echoes: whether output is also written to the usual stream, as a script expects, in whole lines, so that tasks
            that run at the same time don't break each other's lines. A notebook would show it in the last cell.
        sink: gets the lines instead of that stream, such as a view that draws bars: name of the stream, text.
    """

    def __init__(self, note: Callable[[float, str, str], None], *, echoes: bool = True) -> None:
        self._note = note
        self.echoes = echoes
        self.sink: Callable[[str, str], None] | None = None
        self._lock = threading.Lock()  # protects _tails and what they hold
        self._tails: OrderedDict[Key | None, _Tail] = OrderedDict()
        self.open: dict[Key | None, None] = {}  # tasks with an incomplete line; changed with _lock held

    def write(self, task: Task | None, stream: str, text: str, *, is_noted: bool = False) -> None:
        """Take what a task has written.

        Args:
            is_noted: views show it already in a better form.
        """
        lines = self._keep(task, stream, text)
        if not is_noted:
            self._note_lines(stream, lines)
        self._pass_on(stream, lines)

    def end_lines(self, task: Task) -> None:
        """End the incomplete line of a task that has ended. Needed only if `open` is not empty."""
        self._end_lines(_key(task))

    def end_all_lines(self) -> None:
        """End all incomplete lines, since the run has ended."""
        for key in list(self.open):
            self._end_lines(key)

    def _end_lines(self, key: Key | None) -> None:
        with self._lock:
            if key not in self.open:
                return
            del self.open[key]
            rest = self._tails[key].end_lines() if key in self._tails else []
        for stream, line in rest:
            self._note_lines(stream, [line])
            self._pass_on(stream, [line])

    def _note_lines(self, stream: str, lines: Iterable[str]) -> None:
        for line in filter(str.strip, lines):
            self._note(time.time(), stream, line[:TAIL_BYTES])

    def _keep(self, task: Task | None, stream: str, text: str) -> list[str]:
        """Add to a task's output, and return the lines that are complete now."""
        key = None if task is None else _key(task)
        with self._lock:
            tail = self._tails.get(key)
            if tail is None:
                tail = self._tails[key] = _Tail()
            self._tails.move_to_end(key)
            lines = tail.add(stream, text)
            if tail.is_open:
                self.open[key] = None
            else:
                self.open.pop(key, None)
            if len(self._tails) > TAILS:
                oldest, dropped = self._tails.popitem(last=False)
                self.open.pop(oldest, None)
                lines = [*(line for _, line in dropped.end_lines()), *lines]
            return lines

    def _pass_on(self, stream: str, lines: Iterable[str]) -> None:
        for line in lines:
            if self.sink is not None:
                self.sink(stream, f"{line}\n")
            elif self.echoes:
                write_leniently(_streams[stream].target, f"{line}\n")

    def note(self, level: str, text: str) -> None:
        """Show a log record or a warning in the views."""
        self._note(time.time(), level, text)

    def log(self, task: Task | None, level: str, name: str, text: str) -> None:
        """Keep a log record of a task, at least a warning, no matter which handlers there are."""
        self.note(level.lower(), f"{name}: {text}")
        self._keep(task, "stderr", f"{level}:{name}:{text}\n")

    def print(self, stream: str, text: str) -> None:
        """Pass on what a handler prints for a record that is kept already."""
        self._pass_on(stream, text.splitlines())

    def receive(self, task: Task, written: TaskOutput) -> None:
        """Take what a task has written in a worker process."""
        for at, level, text in written.notes:
            self._note(at, level, text)
            if level in NAMES:
                self._pass_on(level, [text])
        if written.tail:
            self._keep(task, "stdout", written.tail if written.tail.endswith("\n") else f"{written.tail}\n")

    def of(self, key: Key) -> str:
        """Return the last 4 KB that the task with this sample, group and index has written."""
        if not self._tails:  # the usual case; a dict's truth needs no lock
            return ""
        with self._lock:
            tail = self._tails.get(key)
            return "" if tail is None else tail.text()


def stream_of(name: str) -> Any:
    """Return the usual "stdout" or "stderr", which code outside of tasks uses, or None if there is none."""
    return _streams[name].target if type(sys) is _Sys else sys.__dict__.get(name)


def write_leniently(target: Any, text: str) -> None:
    """Write to a stream. A task must not fail because a terminal is gone or can't show some characters."""
    if target is None:
        return
    try:
        target.write(text)
    except UnicodeEncodeError:
        encoding = getattr(target, "encoding", None) or "utf-8"
        target.write(text.encode(encoding, "replace").decode(encoding))
    except (OSError, ValueError):  # a closed pipe or file; the output is kept with the task
        pass


def flush_leniently(target: Any) -> None:
    """Flush a stream that may be closed."""
    try:
        target.flush()
    except (AttributeError, OSError, ValueError):
        pass


class LogLine(NamedTuple):
    """A line for the log. `level` is "stdout", "stderr" or a log level; `at` is in seconds since the epoch."""

    at: float
    level: str
    text: str


class TaskOutput(NamedTuple):
    """What a task has written in a worker process: its lines for the log, and its last 4 KB."""

    notes: list[LogLine]
    tail: str


class WorkerOutput(RunOutput):
    """The output of a function's tasks in an executor's worker process, which keeps it until the kernel gets it."""

    def __init__(self) -> None:
        super().__init__(self._collect, echoes=False)
        self._collected: dict[Key, deque[LogLine]] = {}  # under _lock

    def _collect(self, at: float, level: str, text: str) -> None:
        found = current_writer()
        if found is None or found.task is None:
            return
        with self._lock:
            self._collected.setdefault(_key(found.task), deque(maxlen=TASK_LINES)).append(LogLine(at, level, text))

    def take(self, task: Task) -> TaskOutput | None:
        """Remove and return what a task that has ended has written; None if it wrote nothing."""
        if not self._tails and not self._collected:  # the usual case
            return None
        self.end_lines(task)
        key = _key(task)
        with self._lock:
            notes, tail = self._collected.pop(key, ()), self._tails.pop(key, None)
        written = TaskOutput(list(notes), "" if tail is None else tail.text())
        return written if any(written) else None


_of_functions: weakref.WeakValueDictionary[str, RunOutput] = weakref.WeakValueDictionary()
_kept: OrderedDict[str, RunOutput] = OrderedDict()  # keeps them alive in an executor's worker


def assign(digest: str, output: RunOutput) -> None:
    """Have tasks of the function with this digest write to this output, if an executor runs them in this process."""
    _of_functions[digest] = output


def output_of(digest: str) -> RunOutput:
    """Return the output for a function's tasks. In a worker process it keeps what they write for the kernel."""
    found = _of_functions.get(digest)
    if found is None:
        found = _of_functions[digest] = _kept[digest] = WorkerOutput()
        while len(_kept) > 8:
            _kept.popitem(last=False)
    return found


# ---- the streams


class _Stream:
    """Replaces stdout or stderr in `sys`; decides at each write who writes.

    Attributes:
        target: the usual stream, which code outside of tasks uses.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.target: Any = None

    def write(self, text: str) -> int:
        """Write to the output of the current task, or outside of tasks to the usual stream."""
        writer = current_writer()
        if writer is None:
            return len(text) if self.target is None else self.target.write(text)
        redirected = _replaced(self._name)
        if redirected is not None:
            return redirected.write(text)  # type: ignore[no-any-return]
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        writer.output.write(writer.task, self._name, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        target = self.target if current_writer() is None else _replaced(self._name)
        flush = getattr(target, "flush", None)
        if callable(flush):
            flush()

    def isatty(self) -> bool:
        """Return False in a task, since programs must not move a cursor in captured output."""
        return bool(current_writer() is None and self.target is not None and self.target.isatty())

    @property
    def buffer(self) -> Any:
        """The binary stream."""
        return self.target.buffer if current_writer() is None else _Bytes(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)

    def __iter__(self) -> Any:
        return iter(self.target)


class _Bytes:
    """`sys.stdout.buffer` in a task: what is written there is UTF-8 text."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    def write(self, data: bytes) -> int:
        self._stream.write(bytes(data).decode("utf-8", "replace"))
        return len(data)

    def flush(self) -> None:
        pass


_streams = {name: _Stream(name) for name in NAMES}


def _get(name: str) -> Any:
    stream = _streams[name]
    if current_writer() is not None:
        return _replaced(name) or stream
    found = sys.__dict__[name]
    return stream.target if found is stream else found


def _set(name: str, value: Any) -> None:
    stream = _streams[name]
    if current_writer() is None:
        stream.target = value
        sys.__dict__[name] = stream
    else:
        _replace(name, None if value is stream else value)


def _replaced(name: str) -> Any:
    """Return what the current task has put in the place of a stream or a hook, or None."""
    found, writer = (_redirected.get() or {}).get(name), current_writer()
    return found.value if found is not None and writer is not None and found.task is writer.task else None


def _replace(name: str, value: Any) -> None:
    """Replace a stream or a hook for the current task; with None, undo that."""
    writer, replaced = current_writer(), dict(_redirected.get() or {})
    if value is None or writer is None:
        replaced.pop(name, None)
    else:
        replaced[name] = _Replacement(writer.task, value)
    _redirected.set(replaced)


class _Sys(types.ModuleType):
    """The type of `sys` while a run is active: its streams are properties."""

    stdout = property(lambda _: _get("stdout"), lambda _, value: _set("stdout", value))
    stderr = property(lambda _: _get("stderr"), lambda _, value: _set("stderr", value))

    def __reduce__(self) -> Any:  # cloudpickle knows modules by their exact type
        return importlib.import_module, ("sys",)


# ---- the hooks of `warnings`


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """What a task sees as `warnings.showwarning`."""
    writer = current_writer() if file is None else None
    if writer is None:  # a task that has ended left it there
        warnings._showwarning_orig(message, category, filename, lineno, file, line)  # type: ignore[attr-defined]
        return
    writer.output.note("warning", f"{category.__name__}: {message}")
    text = warnings.formatwarning(message, category, filename, lineno, line)
    writer.output.write(writer.task, "stderr", text, is_noted=True)


def _show_details(shown: warnings.WarningMessage) -> None:
    """What a task sees as the hook that `catch_warnings(record=True)` replaces."""
    _show_warning(*_details(shown))


def _details(shown: warnings.WarningMessage) -> tuple[Any, ...]:
    return shown.message, shown.category, shown.filename, shown.lineno, shown.file, shown.line


#: The hooks that `catch_warnings` and users replace -> what is there in a task that has replaced none.
_HOOKS: dict[str, Callable[..., None]] = {"showwarning": _show_warning, "_showwarnmsg_impl": _show_details}


def _get_hook(name: str) -> Any:
    return warnings.__dict__[name] if current_writer() is None else _replaced(name) or _HOOKS[name]


def _set_hook(name: str, value: Any) -> None:
    if current_writer() is not None:
        _replace(name, None if value is _HOOKS[name] else value)
    elif value is not _HOOKS[name]:  # a task has saved it, and a thread that outlives the task restores it
        warnings.__dict__[name] = value


class _Warnings(types.ModuleType):
    """The type of `warnings` while a run is active: its hooks are properties."""

    showwarning = property(lambda _: _get_hook("showwarning"), lambda _, value: _set_hook("showwarning", value))
    _showwarnmsg_impl = property(
        lambda _: _get_hook("_showwarnmsg_impl"), lambda _, value: _set_hook("_showwarnmsg_impl", value)
    )

    def __getattribute__(self, name: str) -> Any:
        """Look `name` up as always. Since Python 3.14 code that ran before would look past the properties otherwise:
        the interpreter remembers where a module's attribute is, as long as the lookup itself is a module's."""
        return super().__getattribute__(name)

    def __reduce__(self) -> Any:
        return importlib.import_module, ("warnings",)


def _dispatch_warning(before: Callable[..., None], shown: warnings.WarningMessage) -> None:
    """Show a warning by the hooks of the calling thread's task. Python calls this for each warning that isn't ignored.

    It is the one function that `catch_warnings` leaves in its place.
    """
    if current_writer() is None:
        before(shown)
        return
    show = _replaced("showwarning")
    if show is None or show is warnings._showwarning_orig:  # type: ignore[attr-defined]
        (_replaced("_showwarnmsg_impl") or _show_details)(shown)
    else:
        show(*_details(shown))


# ---- setting up


_lock = threading.Lock()
_live = 0
_patches: list[_Patch] = []  # under _lock


class _Patch:
    """Replaces a function while a run is active.

    Tracers and debuggers may wrap it meanwhile. Then it stays when the run ends, and does only what was done before;
    the next run puts another one around all of them, so that no function calls itself.

    Args:
        owner: the class or module that has the function.
        replacement: called with what was there before, and the arguments.
    """

    def __init__(self, owner: Any, name: str, replacement: Callable[..., Any]) -> None:
        self._owner, self._name, self._before = owner, name, getattr(owner, name)
        before, self._is_active = self._before, True

        def call(*args: Any, **kwargs: Any) -> Any:
            return replacement(before, *args, **kwargs) if self._is_active else before(*args, **kwargs)

        self._call = call
        setattr(owner, name, call)

    def undo(self) -> None:
        """Restore what was there before, unless something else is there now."""
        self._is_active = False
        if getattr(self._owner, self._name, None) is self._call:
            setattr(self._owner, self._name, self._before)


def install() -> None:
    """Keep what tasks write from now on, since a run starts."""
    global _live
    with _lock:
        _live += 1
        if _live > 1 or type(sys) is not types.ModuleType:  # another library replaces `sys` too: leave it
            return
        for name in NAMES:
            _streams[name].target = sys.__dict__.get(name)
            sys.__dict__[name] = _streams[name]
        sys.__class__ = _Sys
        _patches.append(_Patch(threading.Thread, "start", _start))
        _patches.append(_Patch(logging.StreamHandler, "emit", _emit))
        _patches.append(_Patch(logging, "_logRecordFactory", _make_record))  # what setLogRecordFactory sets
        if type(warnings) is types.ModuleType and "_showwarnmsg" in warnings.__dict__:  # a private hook of Python
            _patches.append(_Patch(warnings, "_showwarnmsg", _dispatch_warning))
            warnings.__class__ = _Warnings


def uninstall() -> None:
    """Undo one `install`, since a run has ended; after the last run, everything is as before."""
    global _live
    with _lock:
        _live = max(0, _live - 1)  # in a forked child it is 0 already
        if not _live:
            _restore()


def _restore() -> None:
    if type(sys) is not _Sys:
        return
    sys.__class__ = types.ModuleType  # type: ignore[assignment]
    for name in NAMES:
        if sys.__dict__.get(name) is _streams[name]:
            sys.__dict__[name] = _streams[name].target
    if type(warnings) is _Warnings:
        warnings.__class__ = types.ModuleType  # type: ignore[assignment]
    while _patches:
        _patches.pop().undo()


def _start(before: Callable[..., None], thread: threading.Thread) -> None:
    """Start a thread; what it writes counts as the output of the task that starts it."""
    writer = current_writer()
    if writer is not None and not thread.name.startswith("nbrun-"):
        run = thread.run

        def run_as_task() -> None:
            set_writer(writer)
            run()

        thread.run = run_as_task  # type: ignore[method-assign]
    before(thread)


def _emit(before: Callable[..., None], handler: logging.StreamHandler[Any], record: logging.LogRecord) -> None:
    """Have handlers that print, such as logging.basicConfig's, write to the task's output."""
    writer = current_writer()
    if writer is None or not _is_console(handler):
        before(handler, record)
        return
    try:
        text = handler.format(record) + handler.terminator
    except Exception:
        handler.handleError(record)
        return
    if record.levelno >= logging.WARNING:  # _make_record has kept it
        writer.output.print("stderr", text)
    else:
        writer.output.write(writer.task, "stderr", text)


def _is_console(handler: logging.StreamHandler[Any]) -> bool:
    stream = getattr(handler, "stream", None)
    known = (sys.__stdout__, sys.__stderr__, *(s.target for s in _streams.values()), *_streams.values())
    return any(stream is k for k in known) or type(stream).__name__ == "OutStream"


def _make_record(before: Callable[..., logging.LogRecord], *args: Any, **kwargs: Any) -> logging.LogRecord:
    record = before(*args, **kwargs)
    if record.levelno >= logging.WARNING and (writer := current_writer()) is not None:
        try:
            text = record.getMessage()
        except Exception:  # arguments that don't fit the message; logging itself reports that
            text = str(record.msg)
        writer.output.log(writer.task, record.levelname, record.name, text)
    return record


def _after_fork_in_child() -> None:
    """In a forked child, which has no run, restore the usual streams."""
    global _live, _lock
    _lock = threading.Lock()
    _live = 0
    _restore()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
