"""The process itself: it starts a supervisor for each program, until its kernel closes the socket or dies."""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import time

from . import processes
from .folders import remove_tree
from .supervision import drain, supervise, wake_on_child


def main(fd: int, root: str, parent: int) -> None:
    """Serve the kernel at the other end of `fd` until it closes the socket or dies; then remove `root`."""
    gc.disable()  # a collection would copy the pages that supervisors share
    processes.become_subreaper()
    wake = wake_on_child()
    supervisors: set[int] = set()
    with socket.socket(fileno=fd) as kernel:
        poller = select.poll()
        poller.register(kernel, select.POLLIN)
        poller.register(wake, select.POLLIN)
        while os.getppid() == parent:  # a forked copy of the kernel may hold the socket open after its death
            ready = {f for f, _ in poller.poll(1000)}
            drain(wake)
            if kernel.fileno() in ready:
                word, fds, _, _ = socket.recv_fds(kernel, 1, 1)
                if not word:
                    break
                os.set_inheritable(fds[0], False)  # a program that held it could write its own report
                supervisors.add(_fork_supervisor(kernel, fds[0]))
            _reap(supervisors)
    _end(supervisors)
    remove_tree(root)


def _fork_supervisor(kernel: socket.socket, fd: int) -> int:
    warden = os.getpid()
    pid = os.fork()
    if pid:
        os.close(fd)
        return pid
    try:
        kernel.close()  # else the kernel could go on writing to a dead warden
        with socket.socket(fileno=fd) as line:
            supervise(line, warden)
    finally:
        os._exit(0)


def _reap(supervisors: set[int]) -> None:
    try:
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            supervisors.discard(pid)
    except ChildProcessError:
        supervisors.clear()
    for pid in (
        set(processes.children(os.getpid())) - supervisors
    ):  # orphans: their supervisor was killed, perhaps by the program
        processes.kill(pid)


def _end(supervisors: set[int]) -> None:
    for pid in supervisors:
        processes.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 1.5
    while supervisors and time.monotonic() < deadline:
        time.sleep(0.005)
        _reap(supervisors)
    processes.kill_descendants(2.0)
