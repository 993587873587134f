"""On a system without POSIX's calls nbrun is imported, runs plain functions and loads their results.

Tried by a process that lacks them (tests/windows.py), not on Windows itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PRELUDE = """
import sys
sys.path.insert(0, {root!r})
from tests.windows import imitate
imitate()
"""


def run_there(program: str, folder: Path) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    text = PRELUDE.format(root=str(ROOT)) + program
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def test_a_plain_function_runs_and_its_results_are_loaded_and_continued(tmp_path: Path) -> None:
    said = run_there(
        """
import nbrun

def length(task):
    if task.item == "bad" and not FIXED:
        raise ValueError("not yet")
    return {"length": len(task.item)}

FIXED = False
words = [f"word {i}" for i in range(300)] + ["bad"]
with nbrun.start(words, length, "results", retry=None) as run:
    pass
assert run.progress.done == 300 and run.progress.errors == 1, run.progress
during = nbrun.load_results("results")
assert len(during) == 301 and during["length"].sum() == sum(map(len, words)) - 3
FIXED = True
with nbrun.start(words, length, "results", retry=None, redo="errors") as run:
    pass
assert run.progress.done == 301 and run.progress.errors == 0, run.progress
assert run.progress.message.count("can't make the names of new files durable") == 1, run.progress
df = nbrun.load_results("results")
assert len(df) == 301 and df["length"].sum() == sum(map(len, words))
assert nbrun.status("results").done == 301
report = nbrun.check("results")
assert report.is_ok, report
print("ALL WELL")
""",
        tmp_path,
    )
    assert "ALL WELL" in said


def test_loading_works_while_a_run_writes_and_a_second_run_is_refused(tmp_path: Path) -> None:
    said = run_there(
        """
import subprocess, threading
import nbrun
from nbrun.errors import ResultsInUseError

go = threading.Event()

def held(task):
    if task.index == 0 and task.sample_id == "b":
        assert go.wait(60)
    return {"x": 1}

samples = [{"id": i, "items": [1, 2, 3]} for i in ("a", "b", "c")]
run = nbrun.start(samples, held, "results", workers=2, groups=["item"])
import time
end = time.monotonic() + 30
while run.progress.saved < 8 and time.monotonic() < end:
    time.sleep(0.01)
assert len(nbrun.load_results("results")) == 8
second = subprocess.run(
    [sys.executable, "-c", PRELUDE + '''
import nbrun
from nbrun.errors import ResultsInUseError
try:
    nbrun.start(["x"], len, "results")
except ResultsInUseError as e:
    print("REFUSED", e)
'''], capture_output=True, text=True)
assert "REFUSED" in second.stdout and "process" in second.stdout, second
go.set()
run.wait()
assert len(nbrun.load_results("results")) == 9
print("ALL WELL")
""".replace("PRELUDE", repr(PRELUDE.format(root=str(ROOT)))),
        tmp_path,
    )
    assert "ALL WELL" in said


def test_a_file_that_an_indexer_has_open_for_a_moment_gets_its_name_then(tmp_path: Path) -> None:
    """Both when a file is replaced and when it is new, as a sample whose results are saved at once is."""
    said = run_there(
        """
import os
from pathlib import Path
from nbrun.storage import files

rename, replace, refused = os.rename, os.replace, []

def in_use(call):
    def change(source, target, **kwargs):
        if len(refused) % 3 < 2:
            refused.append(target)
            raise PermissionError(13, "used by another process", source)
        refused.append("")
        return call(source, target, **kwargs)
    return change

os.rename, os.replace = in_use(rename), in_use(replace)
for replace in (False, True):
    new = files.NewFile("s.json", [b"%d" % replace], "s.tmp")
    new.sync(identify=True)
    new.put(replace=replace)
    assert Path("s.json").read_bytes() == b"%d" % replace
new = files.NewFile("s.json", [b"2"], "s.tmp")
new.sync(identify=True)
try:
    new.put(replace=False)
except FileExistsError:
    assert Path("s.json").read_bytes() == b"1" and len(refused) >= 6
    print("ALL WELL")
""",
        tmp_path,
    )
    assert "ALL WELL" in said


def test_judging_on_this_machine_names_wsl(tmp_path: Path) -> None:
    said = run_there(
        """
import nbrun
from nbrun.judge import LocalSandbox, SandboxFusion, read_problems, demo_problems

try:
    nbrun.start(demo_problems(), LocalSandbox(), "results").wait()
except Exception as e:
    print(type(e).__mro__, e)
SandboxFusion("http://127.0.0.1:1")
print("ALL WELL")
""",
        tmp_path,
    )
    assert "ALL WELL" in said
    assert "WSL" in said
    assert "NbrunError" in said
