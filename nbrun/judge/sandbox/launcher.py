"""Runs a program that is ready, a solution or a checker, in a box of its own.

Called by worker threads and by those that run tests ahead.
"""

from __future__ import annotations

import os
import tempfile
import threading
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
    try:
        os.mkdir(around)
    except FileExistsError:
        remove_tree(around)
        os.mkdir(around)
    for path in (at := str(around), f"{at}/work", f"{at}/tmp", f"{at}/shm"):
        if path != at:
            os.mkdir(path)
        os.chmod(path, 0o755)  # whatever the kernel's mask: the program may be another user
    return Place(around, around / "work", WORK if context.isolation.is_on else str(around / "work"))


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


class Sweeper:
    """Removes the folders of tests while the next ones run: a file system may take milliseconds for each folder.

    Threads: `remove` from any; `close` from one, after the last of them. The thread that removes holds nothing.
    """

    def __init__(self) -> None:
        self._folders: SimpleQueue[Path | None] = SimpleQueue()
        self._lock = threading.Lock()  # protects _thread
        self._thread: threading.Thread | None = None

    def remove(self, folder: Path) -> None:
        """Remove a folder soon; where no thread can be started for that, now."""
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="nbrun-judge-sweeper", daemon=True)
                try:
                    start_thread(thread)
                except ThreadLimitError:
                    remove_tree(folder)
                    return
                self._thread = thread
        self._folders.put(folder)

    def close(self) -> None:
        """Return when all of them are removed."""
        if self._thread is not None:
            self._folders.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (folder := self._folders.get()) is not None:
            remove_tree(folder)


@contextmanager
def temporary_folder(prefix: str, within: Path) -> Iterator[Path]:
    """A new folder, and none any more when the block is left, whatever programs made of it."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=within))
    try:
        yield folder
    finally:
        remove_tree(folder)
