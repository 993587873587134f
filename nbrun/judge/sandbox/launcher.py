"""Runs a program that is ready, a solution or a checker, in a box of its own.

Called by worker threads and by those that run tests ahead.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue

from nbrun.errors import ThreadLimitError
from nbrun.judge.languages import Language
from nbrun.judge.sandbox.build import Program, Toolchain
from nbrun.judge.sandbox.concurrency import ConcurrencyLimiter
from nbrun.judge.sandbox.isolation import PROGRAM, WORK, Isolation, Mounts
from nbrun.judge.sandbox.runner import CancelToken, ExitStatus, Limits, Supervisor
from nbrun.judge.supervisor.folders import remove_tree
from nbrun.threads import start_thread

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
    def supervisor(self) -> Supervisor:
        """What runs programs."""
        return self.toolchain.supervisor

    @property
    def isolation(self) -> Isolation:
        """How they are kept apart."""
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
    return context.supervisor.run(
        [*argv, *arguments], cwd=at.work, streams=streams, env=env, limits=limits, token=token, box=box,
        address_limited=language.address_limited and not language.is_vm, watched=at.around,
        one_of_many=True, more=more,
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
            try:
                for name in ("stdin", "stdout", "stderr"):
                    os.unlink(f"{folder}/{name}")
                for name in _OWN_FOLDERS:
                    os.rmdir(f"{folder}/box/{name}")
                if len(os.listdir(folder)) == 1:
                    self._empty.append(folder)
                    continue
            except OSError:  # its program left something there
                pass
            remove_tree(folder)


@contextmanager
def temporary_folder(prefix: str, within: Path) -> Iterator[Path]:
    """A new folder, and none any more when the block is left, whatever programs made of it."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=within))
    try:
        yield folder
    finally:
        remove_tree(folder)
