"""A command in a real terminal: its Ctrl-C, its output, its exit code; and what a screen shows of an output."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.waiting import DEADLINE_S

ENV = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "TERM": "xterm", "PYTHONUTF8": "1"}
#: Makes stdin the controlling terminal, so that its Ctrl-C is the real one, and becomes the command. The tests may run
#: as a shell's background job, which ignores Ctrl-C; its children would ignore it, too.
IN_TERMINAL = """import fcntl, os, signal, sys, termios
signal.signal(signal.SIGINT, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])"""


class Terminal:
    """A terminal of 80 columns in which one command of this Python runs. A thread collects the output."""

    def __init__(self, *args: str, cwd: Path) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        command = [sys.executable, "-c", IN_TERMINAL, sys.executable, *args]
        self.began = time.monotonic()
        self.child = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, cwd=cwd, env=ENV, start_new_session=True
        )
        os.close(slave)
        self._shown = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # the last process with this terminal has ended
                break
            if not data:
                break
            self._shown += data

    @property
    def text(self) -> str:
        return bytes(self._shown).decode(errors="replace").replace("\r\n", "\n")

    def press_ctrl_c(self) -> None:
        os.write(self._master, b"\x03")

    def wait_until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + DEADLINE_S
        while not condition():
            assert self.child.poll() is None, self.text[-2000:]
            assert time.monotonic() < end, self.text[-2000:]
            time.sleep(0.02)

    def end(self) -> int:
        """Wait for the command's end; return its exit code."""
        try:
            code = self.child.wait(DEADLINE_S)
        finally:
            self.child.kill()
        self.took_s = time.monotonic() - self.began
        self._reader.join(60)
        os.close(self._master)
        return code


def screen(text: str) -> list[str]:
    """Return the lines that a terminal of any height shows after this output: tqdm moves only by CR, LF and up."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[A|[\r\n]|[^\x1b\r\n]+", text):
        if part == "\x1b[A":
            row -= 1
        elif part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            column = 0
            lines += [""] * (row + 1 - len(lines))
        else:
            line = lines[row].ljust(column)
            lines[row] = line[:column] + part + line[column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in lines]
