"""Results directories that a stranger has changed in any place, against all that may be done with one.

    python any_directory.py FIRST LAST       tries these seeds; prints those that fail

A seed makes a valid directory of one of several kinds (finished, interrupted, archived, of the older program, loaded
once so that it has caches) and changes a few of its files: bytes, sizes, types, links, and records with odd content
whose checksum is right. All actions of strangers.py run on it, in a process of limited memory. Nothing outside is
touched, nothing hangs, and no exception is raised but nbrun's own.
"""

import json
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from zlib import crc32

import strangers

import nbrun
from nbrun.tools.archive import archive_finished
from nbrun.tuning import TUNING

SECONDS = 240
MEMORY_BYTES = 3 << 30
ODD_VALUES = [
    None,
    True,
    -1,
    0,
    1.5,
    10**400,
    2**63,
    "",
    "x",
    "../home/evil.pth",
    "/etc/passwd",
    "a\x00b",
    "\ud83d",
    [],
    {},
    [[]],
    [None],
    {"x": None},
    {"a": {"b": []}},
    "k1:" + "0" * 32,
    "done",
    "error",
    float("nan"),
    "z" * 5000,
]


def fn(task):
    if task.item == "bad":
        raise ValueError("no")
    if task.item == "again" and not task.hint:
        return nbrun.Retry("later", hint={"h": 1})
    return {"accepted": task.item == "x", "n": 1, "tests": [1, 2], "nested": {"a": [1]}}


fn.settings = {"model": "m"}
SAMPLES = [
    {"id": "a", "solutions": ["x", "y", "bad"]},
    {"id": "b", "solutions": ["x", "again"], "incorrect_solutions": ["z"]},
    {"id": "c/1", "solutions": []},
]


def valid(kind, path):
    """A directory as nbrun leaves it."""
    if kind == "old":
        path.mkdir(parents=True)
        for i in "ax":
            entries = [{"language": "PYTHON3", "solution": "s", "result": {"accepted": True, "tests": []}}]
            value = {
                "id": i,
                "solution_result": entries,
                "incorrect_solution_result": [],
                "api_used": "u",
                "worker_id": 1,
            }
            value["progress"] = {"completed_solutions": 1, "total_solutions": 2, "is_complete": False}
            (path / f"{i}.json").write_text(json.dumps(value, indent=4))
    run = nbrun.start(SAMPLES, fn, path, view=None, workers=2, retry=None)
    run.wait(60)
    if kind == "interrupted":  # as after a kill: results stand in the journal alone
        copy = path.with_name("killed")
        code = (
            "import sys, os, nbrun\n"
            "def fn(task):\n"
            "    if task.item == 'z': os._exit(0)\n"
            "    return {'n': 1}\n"
            "samples = [{'id': 'a', 'solutions': ['x', 'y', 1, 2, 3]}, {'id': 'b', 'solutions': ['x', 'z']}]\n"
            "nbrun.start(samples, fn, sys.argv[1], view=None, workers=1).wait()\n"
        )
        subprocess.run([sys.executable, "-c", code, str(copy)], check=False, timeout=60, capture_output=True)
        shutil.rmtree(path)
        copy.rename(path)
    if kind == "archived":
        archive_finished(path)
    if kind in ("cached", "old", "archived"):
        before, TUNING.cache_from_bytes = TUNING.cache_from_bytes, 0
        try:
            nbrun.load_results(path, items=True)
            nbrun.load_samples(path)
        finally:
            TUNING.cache_from_bytes = before


KINDS = ["finished", "interrupted", "archived", "old", "cached"]

# ---- changes


def flip(rng, p):
    data = bytearray(p.read_bytes())
    for _ in range(rng.randrange(1, 4)):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    p.write_bytes(data)


def cut(rng, p):
    os.truncate(p, rng.randrange(p.stat().st_size + 1))


def grow(rng, p):
    with open(p, "ab") as f:
        f.write(
            rng.choice(
                [
                    b"\0" * 5000,
                    b"{" * 300_000,
                    b"[" * 300_000 + b"]" * 300_000,
                    b"\n" * 1000,
                    os.urandom(500),
                    b'{"a":' * 100_000,
                ]
            )
        )


def full_of_holes(rng, p):
    os.truncate(p, rng.choice([1 << 30, 40 << 30]))


def replaced(rng, p):
    """By something that is no regular file."""
    shutil.rmtree(p) if p.is_dir() and not p.is_symlink() else p.unlink(missing_ok=True)
    what = rng.randrange(7)
    if what == 0:
        os.mkfifo(p)
    elif what == 1:
        p.mkdir()
        (p / "x").write_text("x")
    elif what == 2:
        p.symlink_to(rng.choice(["/dev/zero", "/dev/full", "/dev/stdin", "/proc/self/mem"]))
    elif what == 3:
        p.symlink_to(OUTSIDE / "precious.txt")
    elif what == 4:
        p.symlink_to(OUTSIDE)
    elif what == 5:
        os.link(OUTSIDE / "precious.txt", p)
    else:
        here = os.getcwd()
        os.chdir(p.parent)  # a socket's path has at most 107 bytes
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.bind(p.name)
        finally:
            os.chdir(here)


def odd_part(rng, value, depth=0):
    """The same value with one odd part."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.15:
            return {k: v for k, v in value.items() if k != key}
        return {k: odd_part(rng, v, depth + 1) if k == key else v for k, v in value.items()}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        return [odd_part(rng, v, depth + 1) if i == at else v for i, v in enumerate(value)]
    return rng.choice(ODD_VALUES)


def as_json(value):
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    text = json.dumps(value, separators=(",", ":"))
    sys.set_int_max_str_digits(before)
    return text.encode()


def odd_record(rng, p):
    """A log's record with one odd part and a right checksum."""
    lines = p.read_bytes().split(b"\n")
    places = [i for i, line in enumerate(lines) if line.count(b"\t") >= 2]
    if not places:
        return flip(rng, p)
    at = rng.choice(places)
    _, kind, body, *whose = lines[at].split(b"\t")
    try:
        if whose and rng.random() < 0.3:
            whose = [as_json(odd_part(rng, json.loads(whose[0])))]
        else:
            body = as_json(odd_part(rng, json.loads(body)))
    except ValueError:
        return flip(rng, p)
    if rng.random() < 0.1:
        kind = rng.choice([b"e", b"h", b"a", b"m", b"x", b"r", b"u", b"z"])
    rest = b"\t".join([kind, body, *whose])
    lines[at] = b"%08x\t%b" % (crc32(rest), rest)
    p.write_bytes(b"\n".join(lines))
    return None


def odd_json(rng, p):
    """A sample's file, or an old one, with one odd part."""
    data = p.read_bytes()
    try:
        value = odd_part(rng, json.loads(data))
    except ValueError:
        return flip(rng, p)
    if rng.random() < 0.5:
        p.write_bytes(as_json(value))
    else:
        p.write_text(json.dumps(value, indent=4) if len(str(value)) < 4000 else "{}")
    return None


def odd_line(rng, p):
    """One line of a sample's file with an odd part: the layout stays nbrun's own."""
    lines = p.read_bytes().split(b"\n")
    at = rng.randrange(len(lines))
    line = lines[at]
    try:
        if line.startswith(b"{"):
            value = odd_part(rng, json.loads(line.rstrip(b",")))
            lines[at] = as_json(value) + (b"," if line.endswith(b",") else b"")
        elif line.startswith(b'"summary": '):
            value = odd_part(rng, json.loads(line[11:].rstrip(b",")))
            value.pop("check", None)
            lines[at] = b'"summary": ' + as_json(value) + b","
        elif line.startswith(b'"'):
            name, _, _rest = line.partition(b": ")
            lines[at] = name + b": " + as_json(rng.choice(ODD_VALUES)) + (b"," if line.endswith(b",") else b"")
        else:
            lines[at] = rng.choice([b"", b"]", b"[", b"{}", b"],", b'"x_result": ['])
    except (ValueError, AttributeError):
        return flip(rng, p)
    p.write_bytes(b"\n".join(lines))
    return None


def odd_archive(rng, p):
    """A ZIP file whose index has an odd part; its members stay."""
    try:
        with zipfile.ZipFile(p) as z:
            members = [(i, z.read(i)) for i in z.infolist()]
    except Exception:
        return flip(rng, p)
    with zipfile.ZipFile(p, "w", zipfile.ZIP_DEFLATED) as z:
        for info, data in members:
            if info.filename == "index.nbrun":
                lines = data.rstrip(b"\n").split(b"\n")
                at = rng.randrange(len(lines))
                lines[at] = as_json(odd_part(rng, json.loads(lines[at])))
                index = z.fp.tell()
                z.writestr(info, b"\n".join(lines) + b"\n")
                z.comment = b"nbrun-archive/1 index=%d" % index
            else:
                z.writestr(rng.choice(["../../home/evil.pth", "x/y.json"]) if rng.random() < 0.2 else info, data)
    return None


def odd_cache(rng, p):
    """A cache whose checksum is right and whose content is not."""
    data = p.read_bytes()
    first, _, rest = data.partition(b"\n")
    head, line_feed, arrays = rest.partition(b"\n")
    if rng.random() < 0.6:
        try:
            data = b"%b\n%b%b%b" % (first, as_json(odd_part(rng, json.loads(head))), line_feed, arrays)
            words = first.split(b" ")
            if len(words) == 3:
                head = data.split(b"\n")[1]
                data = b"%b %b %d\n%b" % (words[0], words[1], len(head), data.partition(b"\n")[2])
            p.write_bytes(resealed(data))
            return
        except ValueError:
            pass
    data = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        if len(data) > 64:
            at = rng.randrange(40, len(data))
            data[at] = rng.choice([0, 255, 34, 48, 57, rng.randrange(256)])
    p.write_bytes(resealed(bytes(data)))


def resealed(data):
    """A cache's bytes with the checksum that its content has."""
    first, _, rest = data.partition(b"\n")
    words = first.split(b" ")
    if len(words) == 3:  # a pack of rows
        return b"%b %08x %b\n%b" % (words[0], crc32(rest), words[2], rest)
    return b"%b %08x\n%b" % (words[0], crc32(rest), rest)


def change(rng, path):
    """Changes one file in the directory."""
    found = sorted(p for p in path.rglob("*") if not p.is_symlink() and p.is_file() and p.stat().st_size < 10**8)
    extra = [
        path / ".nbrun" / n
        for n in (
            "lock",
            "tmp",
            "damaged",
            "cache",
            "known",
            "samples",
            "running",
            "runs.log",
            "matched.log",
            "archived.log",
            "unclean.log",
            "journal-00000099.log",
        )
    ]
    extra += [path / "new.json", path / "archive-0009.zip", path / ".nbrun"]
    if not found or rng.random() < 0.2:
        target = rng.choice(extra)
        if not target.parent.is_dir() or target.parent.is_symlink():
            return "nothing"
        replaced(rng, target)
        return f"replaced {target.name}"
    p = rng.choice(found)
    ways = [flip, cut, grow, replaced, full_of_holes]
    if p.suffix == ".log":
        ways += [odd_record] * 10
    elif p.suffix == ".json":
        ways += [odd_json] * 5 + [odd_line] * 5
    elif p.suffix == ".zip":
        ways += [odd_archive] * 10
    elif "cache" in str(p):
        ways += [odd_cache] * 10
    elif p.name in ("samples", "known", "running"):
        ways += [flip] * 5
    way = rng.choice(ways)
    way(rng, p)
    return f"{way.__name__} {p.name}"


OUTSIDE = Path("/nonexistent")


def snapshot(folder):
    return {p.name: (p.read_bytes(), p.stat().st_mode) for p in folder.iterdir()}


def limit():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


_made = {}


def make(seed, top):
    """A changed directory below `top`, and what was done to it."""
    global OUTSIDE
    rng = random.Random(seed)
    kind = rng.choice(KINDS)
    if kind not in _made:
        _made[kind] = Path(tempfile.mkdtemp()) / "results"
        valid(kind, _made[kind])
    OUTSIDE = top / "home"
    OUTSIDE.mkdir()
    (OUTSIDE / "precious.txt").write_text("precious\n")
    path = top / "in" / "results"
    path.parent.mkdir()
    shutil.copytree(_made[kind], path)
    done = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        try:
            done.append(change(rng, path))
        except OSError as e:
            done.append(f"not: {e}")
    return path, f"{kind}: {', '.join(done)}"


def try_seeds(seeds, seconds=SECONDS):
    """Returns what went wrong: seed -> text."""
    tops = {seed: Path(tempfile.mkdtemp()) for seed in seeds}
    made = {seed: make(seed, top) for seed, top in tops.items()}
    before = {seed: snapshot(top / "home") for seed, top in tops.items()}
    wrong = {}
    left = list(seeds)
    while left:
        command = [sys.executable, strangers.__file__, *(str(made[s][0]) for s in left)]
        try:
            p = subprocess.run(
                command, capture_output=True, text=True, timeout=seconds, preexec_fn=limit, stdin=subprocess.DEVNULL
            )
            code, out, err = p.returncode, p.stdout, p.stderr
        except subprocess.TimeoutExpired as e:
            code, out, err = (
                "time",
                (e.stdout or b"").decode(errors="replace"),
                (e.stderr or b"").decode(errors="replace"),
            )
        if code == 0:
            break
        begun = [line for line in out.splitlines() if line.startswith("begins ")]
        at = next((i for i, s in enumerate(left) if begun and str(made[s][0]) in begun[-1]), 0)
        wrong[left[at]] = f"{made[left[at]][1]}\n{code} {begun[-1:]}\n{err[-1500:]}"
        left = left[at + 1 :]
    for seed, top in tops.items():
        if snapshot(top / "home") != before[seed]:
            wrong[seed] = f"{made[seed][1]}\ntouched: {snapshot(top / 'home')}"
        if (extra := sorted(p.name for p in top.iterdir() if p.name not in ("home", "in"))) or sorted(
            p.name for p in (top / "in").iterdir()
        ) != ["results"]:
            wrong.setdefault(seed, f"{made[seed][1]}\nleft: {extra} {sorted(os.listdir(top / 'in'))}")
        shutil.rmtree(top, ignore_errors=True)
    return wrong


def main():
    first, last = map(int, sys.argv[1:3])
    total = 0
    for at in range(first, last, 10):
        wrong = try_seeds(range(at, min(last, at + 10)))
        total += len(wrong)
        for seed, text in wrong.items():
            print("SEED", seed, text, flush=True)
    print(total, "failed")


if __name__ == "__main__":
    main()
