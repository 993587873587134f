"""Programs, solutions and checkers alike: compiles each source once, and runs what is ready in a box of its own.

Called by many worker threads at once, and by those that run tests ahead. Built programs are in a folder, by a digest of
source, compiler, flags and limit. Nothing of it outlives a crash but what a `cache_dir` of the user's holds: entries
come into it whole, by a rename.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from nbrun.errors import JudgeError, ThreadLimitError
from nbrun.judge.languages import Language
from nbrun.judge.sandbox import CancelToken, ConcurrencyLimiter, ExitStatus, Limits, Supervisor
from nbrun.judge.sandbox.isolation import PROGRAM, WORK, Isolation, Mounts, readable
from nbrun.judge.sources import Source
from nbrun.judge.supervisor import read_safely, remove_tree
from nbrun.threads import start_thread

#: For compilers. Sources of contests take a few seconds; one that takes all this is a compile bomb.
COMPILE_LIMITS = Limits(time_limit_s=30.0, wall_limit_s=61.0, memory_limit_mb=2048.0, output_limit_mb=256.0)
_KEPT_BYTES = 4096
_RECORD = "compiled.json"
_SIGNS_OF_THE_MACHINE = ("Killed signal", "Terminated signal", "Interrupt signal", "No space left on device")


@dataclass(frozen=True)
class Compiled:
    """What a compiler said. `return_code` is 0 if it made a program; `cause` names the limit that ended it, if any."""

    return_code: int
    time_s: float
    stderr: str
    cause: str = ""


class Way(NamedTuple):
    """One way to compile a source.

    Attributes:
        standard: which of the language's standards; empty where it has none.
        options: what the compiler is given for it.
        header: declarations that are included before the source; often empty.
    """

    standard: str = ""
    options: tuple[str, ...] = ()
    header: str = ""

    @property
    def name(self) -> str:
        """The standard as its compiler calls it."""
        _, is_option, name = "".join(self.options[:1]).rpartition("-std=")
        name = name if is_option else self.standard
        return f"{name} with {_HEADER}" if self.header else name


AS_IT_IS = Way()
_HEADER = "nbrun-compat.h"


def ways(language: Language, source: Source) -> list[Way]:
    """Return the ways to compile a source, in the order in which they are tried until one succeeds."""
    found = [Way(standard, language.standards[standard]) for standard in language.tried] or [AS_IT_IS]
    name = language.compat_name.encode()
    if language.compat_header and any(name in content for content in source.files.values()):
        found.append(Way(found[0].standard, (*found[0].options, "-include", _HEADER), language.compat_header))
    return found


@dataclass
class _Entry:
    """One built program. `lock` protects its folder while it is built; `users` is protected by the cache's lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    size_bytes: int = 0


class CompileCache:
    """Built programs in a folder that never grows far beyond a limit: what was used longest ago goes first.

    Threads: any number; two that want the same program wait for one compiler.
    """

    def __init__(self, folder: Path, limit_mb: float) -> None:
        self._folder, self._limit_bytes = folder, int(limit_mb * (1 << 20))
        self._lock = threading.Lock()  # protects _entries and their users and sizes
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        folder.mkdir(parents=True, exist_ok=True)
        for old in sorted((f for f in folder.iterdir() if (f / _RECORD).is_file()), key=lambda f: f.stat().st_mtime):
            self._entries[old.name] = _Entry(size_bytes=_size_bytes(old))

    @contextmanager
    def program(
        self, language: Language, source: Source, limits: Limits, build: Callable[[Path], Compiled], way: Way = AS_IT_IS
    ) -> Iterator[tuple[Path, Compiled]]:
        """The folder with the built program and what the compiler said; it stays until the block is left.

        `build` compiles inside the folder it is given, which holds the source; it is not called where it was before.
        """
        key = _key(language, source, way, limits)
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            entry.users += 1
            self._entries.move_to_end(key)
        try:
            folder = self._folder / key
            with entry.lock:
                compiled = _read(folder) or self._build(folder, source, build, entry)
            yield folder, compiled
        finally:
            with self._lock:
                entry.users -= 1
                unused = self._drop_unused()
            for name in unused:
                remove_tree(self._folder / name)

    def holds(self, language: Language, source: Source, limits: Limits, way: Way) -> bool:
        """Return whether this program is built, or is being built."""
        with self._lock:
            return _key(language, source, way, limits) in self._entries

    def _build(self, folder: Path, source: Source, build: Callable[[Path], Compiled], entry: _Entry) -> Compiled:
        at = folder.with_name(f"{folder.name}.{os.getpid()}-{threading.get_ident()}.new")
        try:
            at.mkdir()
            source.write(at)
            compiled = build(at)
            (at / _RECORD).unlink(missing_ok=True)  # a build may have put a link there
            (at / _RECORD).write_text(json.dumps(asdict(compiled)))
            try:
                at.rename(folder)
            except OSError:
                if _read(folder) is None:  # else another process that shares this cache was faster
                    raise
        finally:
            remove_tree(at)
        with self._lock:
            entry.size_bytes = _size_bytes(folder)
        return compiled

    def _drop_unused(self) -> list[str]:
        """Drop the entries used longest ago, so that the others fit; return their names. Called under the lock."""
        excess = sum(entry.size_bytes for entry in self._entries.values()) - self._limit_bytes
        names = []
        for name in [name for name, entry in self._entries.items() if not entry.users]:
            if excess > 0:
                names.append(name)
                excess -= self._entries.pop(name).size_bytes
        return names


@dataclass(frozen=True)
class Program:
    """What is run: the folder that holds it, what the compiler said, and what a result says of how it was made."""

    language: Language
    source: Source
    folder: Path
    compiled: Compiled | None
    build: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def readable(self) -> list[str]:
        """The folders that it can't run without, as far as they are no part of the system."""
        language = self.language
        return [*readable(language.tool, language.compiler), *language.readable]


@dataclass(frozen=True)
class Toolchain:
    """Makes programs of sources: holds what was built before, what runs compilers, and how those are kept apart.

    Threads: any number.
    """

    cache: CompileCache
    supervisor: Supervisor
    isolation: Isolation
    limit_s: float

    def has_begun(self, language: Language, source: Source) -> bool:
        """Return whether nothing of a source has to be compiled that isn't being compiled already."""
        return not language.compile or self.cache.holds(
            language, source, _compile_limits(self.limit_s), ways(language, source)[0]
        )

    @contextmanager
    def program(
        self, language: Language, source: Source, folder: Path, token: CancelToken, limit_s: float | None = None
    ) -> Iterator[Program]:
        """Make a source ready to run; one that needs no compiler is written into `folder`.

        A source that names no standard is compiled under one after another until it compiles; if it does under none,
        what the compiler said under the first is what counts. A compiler that ran out of time is given twice as much
        once: CPU time itself stretches on a busy machine.
        """
        if not language.compile:
            yield _written(language, source, folder / "program")
            return
        time_s = limit_s or self.limit_s
        failed: list[_Built] = []
        for way in ways(language, source):
            with self._built(language, source, way, time_s, token) as built:
                if built.compiled.return_code == 0:
                    yield built.program(language, source, failed)
                    return
            failed.append(built)
            if built.compiled.cause:
                break  # a source that exhausts the compiler does so under the next standard too
        yield failed[0].program(language, source, failed[1:])

    @contextmanager
    def _built(
        self, language: Language, source: Source, way: Way, time_s: float, token: CancelToken
    ) -> Iterator[_Built]:
        """Compile a source in one way; twice, with more time, if the compiler's time is up."""
        for times in (1, 2):
            limits = _compile_limits(times * time_s)
            build = partial(compile_with, self, limits, language, source, way, token=token)
            with self.cache.program(language, source, limits, build, way) as (at, compiled):
                if compiled.cause != "cpu" or times == 2:
                    yield _Built(way, at, compiled)
                    return


def _written(language: Language, source: Source, folder: Path) -> Program:
    """Write a source that needs no compiler into a new folder."""
    folder.mkdir()
    source.write(folder)
    return Program(language, source, folder, None, {"prelude": list(source.prelude)} if source.prelude else {})


class _Built(NamedTuple):
    """What became of one way to compile a source."""

    way: Way
    folder: Path
    compiled: Compiled

    def program(self, language: Language, source: Source, failed: Sequence[_Built]) -> Program:
        """Return the program, whose result says how it was built and which ways `failed` beside this one."""
        said: dict[str, Any] = {"standard": self.way.name} if self.way.options else {}
        if failed:
            said["also_tried"] = [other.way.name for other in failed]
        return Program(language, source, self.folder, self.compiled, said)


def _compile_limits(time_s: float) -> Limits:
    return replace(COMPILE_LIMITS, time_limit_s=time_s, wall_limit_s=2 * time_s + 1)


def compile_with(
    toolchain: Toolchain, limits: Limits, language: Language, source: Source, way: Way, folder: Path, token: CancelToken
) -> Compiled:
    """Compile the files of a folder in one way, under limits, and in a box where there is one.

    A source on which the compiler exceeds its limits of CPU time, memory or output is one that does not compile.

    Raises:
        JudgeError: there is no compiler, it was killed, or the machine let it wait: that says nothing of the source.
    """
    box, at = None, str(folder)
    if toolchain.isolation.is_on:
        box, at = _compiler_box(toolchain.isolation, language, folder), WORK
    path = f"{os.path.dirname(language.compiler)}:{_PATH}"  # a compiler's parts are beside itself and in the system
    env = {"PATH": path, "TMPDIR": at, "HOME": at, "LANG": "C.UTF-8"}
    env |= {name: value.replace("{folder}", at) for name, value in language.compile_env.items()}
    if way.header:
        (folder / _HEADER).write_text(way.header)
        (folder / _HEADER).chmod(0o644)
    places = {"folder": at, "main": source.main, "entry": source.entry}
    command = language.command(language.compile, source.names(language), way.options, **places)
    out, null = folder / "compiler.out", Path(os.devnull)
    ending = toolchain.supervisor.run(
        command, cwd=folder, streams={"stdin": null, "stdout": null, "stderr": out}, env=env, limits=limits,
        token=token, box=box, address_limited=language.is_address_limited,
    )  # fmt: skip
    _remove_hidden(folder, source)
    stderr = read_safely(out, _KEPT_BYTES).decode("utf-8", "replace").replace(f"{at}/", "")
    out.unlink(missing_ok=True)
    return _conclusion(ending, limits, stderr)


def _compiler_box(isolation: Isolation, language: Language, folder: Path) -> dict[str, Any]:
    """Return the box of a compiler, which may write to the folder with the source and to the folders in that."""
    box = isolation.box(Mounts(work=folder, readable=[*readable(language.compiler), *language.readable]))
    box["owned"] += [str(inside) for inside in folder.rglob("*") if inside.is_dir() and not inside.is_symlink()]
    return box


def _remove_hidden(folder: Path, source: Source) -> None:
    """Remove what compilers keep in the folder that is their home, such as Go's cache."""
    own = {name.partition("/")[0] for name in source.files}
    for hidden in folder.glob(".*"):
        if hidden.name not in own:
            remove_tree(hidden)


def _conclusion(ending: ExitStatus, limits: Limits, stderr: str) -> Compiled:
    """Return what the end of a compiler says of the source; raise JudgeError if it says something of the machine."""
    code, how = ending.return_code, ending.cause
    if how in ("cpu", "memory", "files", "processes"):
        return Compiled(-1, ending.cpu_s, f"the compiler exceeded its limit ({how}; {limits}). {stderr}", how)
    if ending.has_succeeded:
        return Compiled(0, ending.cpu_s, "")
    is_disturbed = how is not None or any(sign in stderr for sign in _SIGNS_OF_THE_MACHINE)
    if code is not None and code > 0 and not is_disturbed:
        return Compiled(code, ending.cpu_s, stderr)
    raise JudgeError(
        f"the compiler was ended by {how or f'a signal (return code {code})'} after {ending.wall_s:.1f} s "
        f"(limits: {limits}). That is no compile error. {stderr[-500:]}"
    )


def _key(language: Language, source: Source, way: Way, limits: Limits) -> str:
    tool = language.compiler
    stat = os.stat(tool)  # a compiler that was updated is another compiler
    how = (language.compile, (way.options, way.header), source.entry, source.main)
    about = json.dumps([*how, tool, stat.st_size, stat.st_mtime_ns, limits.time_limit_s])
    return blake2b(about.encode() + b"\0" + source.as_bytes(), digest_size=16).hexdigest()


def _read(folder: Path) -> Compiled | None:
    try:
        return Compiled(**json.loads((folder / _RECORD).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _size_bytes(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*"))


# ---- running what is ready

#: What a virtual machine may take beside its heap, in MiB.
VM_MEMORY_MB = 512.0
_PATH = "/usr/local/bin:/usr/bin:/bin"
#: The folders of one run that its program may write to.
_OWN_FOLDERS = ("work", "tmp", "shm")
_STACK_MB = 1024  # the most that a JVM takes


@dataclass(frozen=True)
class JudgeContext:
    """What judging one task needs: a folder of its own, the toolchain, the token that cancels its programs.

    Attributes:
        limiter: limits how many programs of the sandbox run at once.
    """

    folder: Path
    toolchain: Toolchain
    token: CancelToken
    limiter: ConcurrencyLimiter
    languages: Mapping[str, Language]

    @property
    def isolation(self) -> Isolation:
        """How programs are kept apart."""
        return self.toolchain.isolation


@dataclass(frozen=True)
class Place:
    """The folders around one run: `work` is what the program finds itself in, and `within` what it calls that."""

    around: Path
    work: Path
    within: str


def place(context: JudgeContext, around: Path) -> Place:
    """Make the folders, in the place of those of an earlier run."""
    at = str(around)
    try:
        _make_folders(at)
    except FileExistsError:
        remove_tree(at)
        _make_folders(at)
    return Place(around, around / "work", WORK if context.isolation.is_on else f"{at}/work")


def _make_folders(around: str) -> None:
    if not os.path.isdir(around):
        os.mkdir(around)
    for name in _OWN_FOLDERS:
        path = f"{around}/{name}"
        os.mkdir(path)
        os.chmod(path, 0o755)  # whatever the kernel's umask is


def launch(
    program: Program,
    context: JudgeContext,
    at: Place,
    streams: Mapping[str, Path | int],
    limits: Limits,
    token: CancelToken,
    arguments: Sequence[str] = (),
    owned: Sequence[Path] = (),
    more: bool = False,
) -> ExitStatus:
    """Run it to its end and return how it ended.

    Args:
        owned: folders in its place that it may write to, beside the place itself.
        more: it is likely to be run again soon, with other files.

    Raises:
        JudgeError: it could not be started, was cancelled, or the machinery failed.
    """
    language, box, folder = program.language, None, str(program.folder)
    if context.isolation.is_on:
        mounts = Mounts(at.work, at.around / "tmp", at.around / "shm", program.folder, program.readable)
        box = context.isolation.box(mounts)
        box["owned"] += map(str, owned)
        folder = PROGRAM
    memory_mb = max(1, int(limits.memory_limit_mb))
    argv = language.command(
        language.run, folder=folder, entry=program.source.entry, main=program.source.main, memory_mb=memory_mb,
        stack_mb=min(_STACK_MB, memory_mb),
    )  # fmt: skip
    if language.is_vm:
        limits = replace(limits, memory_limit_mb=limits.memory_limit_mb + VM_MEMORY_MB)
    env = {"PATH": _PATH, "LANG": "C.UTF-8", "HOME": at.within, "TMPDIR": at.within, "ONLINE_JUDGE": "true"}
    env |= {name: value.replace("{folder}", folder) for name, value in {**program.source.env, **language.env}.items()}
    return context.toolchain.supervisor.run(
        [*argv, *arguments], cwd=at.work, streams=streams, env=env, limits=limits, token=token, box=box,
        address_limited=language.is_address_limited, watched=at.around, one_of_many=True, more=more,
    )  # fmt: skip


class RunFolders:
    """The folders of a solution's tests, which are emptied while the next tests run.

    A file system may take milliseconds to make or to remove a folder, so one whose program left only its streams is
    used again. No program can reach it: programs see only the folders in it that `place` makes, and those are new.

    Threads: `take` and `give_back` from any; `close` from one, after the last of them. A thread of its own empties
    folders; it holds nothing else.
    """

    def __init__(self, within: Path) -> None:
        self._within = within
        self._numbers = itertools.count()
        self._used: SimpleQueue[Path | None] = SimpleQueue()
        self._empty: deque[Path] = deque()
        self._lock = threading.Lock()  # protects _thread
        self._thread: threading.Thread | None = None

    def take(self) -> Path:
        """Return an empty folder."""
        try:
            return self._empty.pop()
        except IndexError:
            folder = self._within / f"test{next(self._numbers)}"
            folder.mkdir()
            return folder

    def give_back(self, folder: Path) -> None:
        """Empty or remove a folder soon; where no thread can be started for that, now."""
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="nbrun-judge-folders", daemon=True)
                try:
                    start_thread(thread)
                except ThreadLimitError:
                    remove_tree(folder)
                    return
                self._thread = thread
        self._used.put(folder)

    def close(self) -> None:
        """Return when all of them are empty or removed."""
        if self._thread is not None:
            self._used.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (folder := self._used.get()) is not None:
            if _is_emptied(folder):
                self._empty.append(folder)
            else:  # its program left something there
                remove_tree(folder)


def _is_emptied(folder: Path) -> bool:
    """Remove the streams of a run and what `place` made for it; return whether nothing else is there."""
    try:
        for name in ("stdin", "stdout", "stderr"):
            os.unlink(f"{folder}/{name}")
        for name in _OWN_FOLDERS:
            os.rmdir(f"{folder}/box/{name}")
        return len(os.listdir(folder)) == 1
    except OSError:
        return False


@contextmanager
def temporary_folder(prefix: str, within: Path) -> Iterator[Path]:
    """A new folder, and none any more when the block is left, whatever programs made of it."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=within))
    try:
        yield folder
    finally:
        remove_tree(folder)
