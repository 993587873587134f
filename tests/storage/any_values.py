"""Samples, items, results, errors and hints of any kind, over several runs, against a dict.

    python any_values.py FIRST LAST       tries these seeds; prints those that fail

Between two runs the dataset is reordered and changed, files are rewritten as other tools do, archived, unpacked,
merged or repaired. After each step all views say the same as the model: nothing is lost, changed, doubled or run again.
"""

import collections
import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import io
import json
import math
import random
import shutil
import sys
import tempfile
import threading
import traceback
import unicodedata
import uuid
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

import nbrun
from nbrun import cli
from nbrun.results.reader import read_rows
from nbrun.tools.merge import merge_results

SECONDS = 60
ODD_TEXTS = [
    "",
    " ",
    "a",
    "A",
    "é",
    "e\u0301",
    "É",
    "ß",
    "ss",
    ".",
    "..",
    "/",
    "a/b",
    "a_b",
    "a\\b",
    "CON",
    "nul",
    "con.txt",
    "aux.json",
    "x.json",
    ".nbrun",
    ".hidden",
    "-rf",
    "~",
    "a:b",
    "a*?",
    "\x00",
    "\x01\x02",
    "a\nb",
    "a\r\nb",
    "\t",
    "\u2028",
    "\ufeff",
    "\U0001f600",
    "cut \ud83d",
    "\udfff",
    "%00",
    "%2F",
    "null",
    "true",
    "0",
    "00",
    "-0",
    "1e5",
    "NaN",
    "<b>&amp;",
    "=cmd()",
    "\x1b[31m",
    "{}",
    '"',
    "'",
    "],\n",
    '"progress": {}',
    '{"index":0,',
    "x" * 127,
    "y" * 128,
    "z" * 255,
    "\U0001f600" * 80,
    "ab/" * 700,
    "tail ",
    "tail.",
    "a\u200bb",
    "\u202eabc",
    "İ",
    "ı",
    "ﬁ",
    "Å",
    "Å",
    "A" * 143,
    "…",
    "__",
    "$float",
    "k1:",
    "summary",
    "id",
    "18446744073709551617",
]


class Colour(enum.Enum):
    RED = "red"
    TWO = 2


@dataclasses.dataclass
class Point:
    x: object
    y: object = None


Named = collections.namedtuple("Named", "a b")


def clean(text):
    """As a text comes back."""
    return "".join("\ufffd" if 0xD800 <= ord(c) < 0xE000 else c for c in text)


def a_text(rng):
    roll = rng.random()
    if roll < 0.6:
        return rng.choice(ODD_TEXTS)
    if roll < 0.7:
        return unicodedata.normalize(rng.choice(["NFC", "NFD"]), rng.choice(["Åström", "ñandú", "한글"]))
    return "".join(
        chr(rng.choice([rng.randrange(128), rng.randrange(0x3000), rng.randrange(0x110000)]))
        for _ in range(rng.randrange(9))
    )


def a_number(rng):
    return rng.choice(
        [
            0,
            1,
            -1,
            7,
            2**31,
            2**53,
            2**53 + 1,
            2**63 - 1,
            2**63,
            2**64 - 1,
            2**64,
            -(2**63),
            -(2**63) - 1,
            10**19,
            10**400,
            -(10**5000),
            rng.getrandbits(70),
            -rng.getrandbits(300),
            0.0,
            0.1,
            1e16,
            1e22,
            1.7976931348623157e308,
            5e-324,
            -1e-7,
            123456789012345680.0,
            1e19,
            float(2**64),
            rng.random() * 10.0 ** rng.randrange(-300, 300),
            math.inf,
            -math.inf,
            math.nan,
        ]
    )


def a_scalar(rng):
    """A value and what comes back."""
    roll = rng.randrange(3)
    if roll == 0:
        text = a_text(rng)
        return text, clean(text)
    if roll == 1:
        n = a_number(rng)
        return n, n
    return rng.choice([(None, None), (True, True), (False, False)])


def a_special(rng):
    """A value of a type that JSON doesn't know, and what comes back."""
    zone = dt.timezone(dt.timedelta(hours=5, minutes=30))
    return rng.choice(
        [
            lambda: (np.int64(-5), -5),
            lambda: (np.uint64(2**64 - 1), 2**64 - 1),
            lambda: (np.float32(0.5), 0.5),
            lambda: (np.float64("nan"), math.nan),
            lambda: (np.bool_(True), True),
            lambda: (np.str_("é"), "é"),
            lambda: (np.arange(3), [0, 1, 2]),
            lambda: (np.array([[1.5, np.nan]]), [[1.5, math.nan]]),
            lambda: (np.array("x"), "x"),
            lambda: (np.array([], dtype="f4"), []),
            lambda: (np.array(["a", None, 2**70], dtype=object), ["a", None, 2**70]),
            lambda: (np.array(["2020-01-02", "NaT"], dtype="M8[ns]"), ["2020-01-02T00:00:00.000000000", None]),
            lambda: (np.ma.masked_array([1, 2], [False, True]), [1, None]),
            lambda: (
                np.ma.masked_array(np.array(["2020-01-02", "2020-01-02"], dtype="M8[ns]"), [False, True]),
                ["2020-01-02T00:00:00.000000000", None],
            ),
            lambda: (np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]), [{"a": 1, "b": 2.5}]),
            lambda: (
                np.array([(1, "2020-01-01")], dtype=[("a", "i4"), ("b", "M8[ns]")]),
                [{"a": 1, "b": "2020-01-01T00:00:00.000000000"}],
            ),
            lambda: (np.array([(1, 2)], dtype=[("a", "i4"), ("b", "i4")])[0], {"a": 1, "b": 2}),
            lambda: (np.timedelta64(1500, "ms"), 1.5),
            lambda: (np.array([np.timedelta64(1500, "ms")], dtype="m8[ns]"), [1.5]),
            lambda: (np.complex128(1 + 2j), {"$complex": [1.0, 2.0]}),
            lambda: (np.array([1 + 2j]), [{"$complex": [1.0, 2.0]}]),
            lambda: (np.bytes_(b"ab"), {"$bytes": "YWI="}),
            lambda: (np.void(b"ab"), {"$bytes": "YWI="}),
            lambda: (pd.NA, None),
            lambda: (pd.NaT, None),
            lambda: (pd.Timestamp("2020-01-02", tz="Asia/Kolkata"), "2020-01-02T00:00:00+05:30"),
            lambda: (pd.Timedelta("1s"), 1.0),
            lambda: (pd.Series([1, 2], index=["x", "y"]), {"x": 1, "y": 2}),
            lambda: (pd.Series([1.5, None]), [1.5, math.nan]),
            lambda: (pd.Series([1, None], dtype="Int64"), [1, None]),
            lambda: (pd.Series([], dtype=object), []),
            lambda: (pd.Series([2**70]), [2**70]),
            lambda: (pd.Series(pd.to_datetime(["2020-01-02"])), ["2020-01-02T00:00:00"]),
            lambda: (pd.Series([1], index=pd.to_datetime(["2020-01-02"])), {"2020-01-02 00:00:00": 1}),
            lambda: (pd.DataFrame({"a": [1]}), {"a": {"0": 1}}),
            lambda: (pd.Categorical(["a", "b"]), ["a", "b"]),
            lambda: (pd.Index([1, 2]), [1, 2]),
            lambda: (pd.RangeIndex(3), [0, 1, 2]),
            lambda: (pd.array([True, None], dtype="boolean"), [True, None]),
            lambda: (pd.Period("2020-01"), "2020-01"),
            lambda: (pa.scalar(5), 5),
            lambda: (pa.array([1, None]), [1, None]),
            lambda: (pa.scalar("x"), "x"),
            lambda: (pa.array([{"a": 1}]), [{"a": 1}]),
            lambda: (pa.scalar(None), None),
            lambda: (b"\xff\x00", {"$bytes": "/wA="}),
            lambda: (bytearray(b"a"), {"$bytes": "YQ=="}),
            lambda: (memoryview(b"a"), {"$bytes": "YQ=="}),
            lambda: (dt.datetime(2020, 1, 2, tzinfo=zone), "2020-01-02T00:00:00+05:30"),
            lambda: (dt.date(2020, 1, 2), "2020-01-02"),
            lambda: (dt.time(1, 2), "01:02:00"),
            lambda: (dt.timedelta(seconds=1.5), 1.5),
            lambda: (decimal.Decimal("1.10"), "1.10"),
            lambda: (decimal.Decimal("NaN"), "NaN"),
            lambda: (fractions.Fraction(1, 3), "1/3"),
            lambda: (uuid.UUID(int=5), str(uuid.UUID(int=5))),
            lambda: (1 + 2j, {"$complex": [1.0, 2.0]}),
            lambda: (Colour.RED, "red"),
            lambda: (Colour.TWO, 2),
            lambda: (Path("a/b"), "a/b"),
            lambda: ({3, 1, 2}, [1, 2, 3]),
            lambda: (frozenset(["b", "a"]), ["a", "b"]),
            lambda: (range(3), [0, 1, 2]),
            lambda: (collections.deque([1, 2]), [1, 2]),
            lambda: (collections.OrderedDict(a=1), {"a": 1}),
            lambda: (collections.Counter("aa"), {"a": 2}),
            lambda: (collections.defaultdict(list, a=[1]), {"a": [1]}),
            lambda: (Point(1, Colour.RED), {"x": 1, "y": "red"}),
            lambda: (Named(1, None), [1, None]),
        ]
    )()


def a_value(rng, depth=3, special=0.3):
    """A value and what comes back."""
    roll = rng.random()
    if depth == 0 or roll < 0.4:
        return a_special(rng) if rng.random() < special else a_scalar(rng)
    pairs = [a_value(rng, depth - 1, special) for _ in range(rng.randrange(4))]
    if roll < 0.6:
        kind = rng.choice([list, tuple])
        return kind(v for v, _ in pairs), [e for _, e in pairs]
    return a_mapping(rng, pairs)


def a_mapping(rng, pairs):
    value, expected = {}, {}
    for v, e in pairs:
        k, as_text = rng.choice(
            [
                lambda: (t := a_text(rng), clean(t)),
                lambda: (1, "1"),
                lambda: (True, "true"),
                lambda: (None, "null"),
                lambda: (0.5, "0.5"),
                lambda: (2**70, str(2**70)),
                lambda: (np.int64(4), "4"),
                lambda: (dt.date(2020, 1, 2), "2020-01-02"),
            ]
        )()
        if as_text not in expected and k not in value and not as_text.startswith("$"):
            value[k], expected[as_text] = v, e
    return value, expected


def text_of(value):
    """What a value says, as text that is the same for equal ones alone; of integers of any size."""
    if isinstance(value, dict):
        return "{" + ",".join(sorted(f"{k!r}:{text_of(v)}" for k, v in value.items())) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(text_of, value)) + "]"
    return hex(value) if type(value) is int else repr(value)


def same(a, b):
    """Equal, NaN too, and of equal types."""
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (a != a and b != b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def rewritten(text, **options):
    """As another tool writes JSON that it has read: one that can convert long integers."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(json.loads(text), **options).encode()
    finally:
        sys.set_int_max_str_digits(before)


REWRITES = [
    lambda t: rewritten(t, indent=2),
    lambda t: rewritten(t, ensure_ascii=False),
    lambda t: rewritten(t, sort_keys=True, indent="\t"),
    lambda t: rewritten(t, separators=(",", ":")),
    lambda t: t.replace("\n", "\r\n").encode(),
    lambda t: b"\xef\xbb\xbf" + t.encode(),
    lambda t: t.encode().rstrip() + b"\n\n",
    lambda t: t.encode("utf-16"),
]


class World:
    """A results directory, the dataset that it is of, and what is known of each item."""

    def __init__(self, seed, top):
        self.rng = random.Random(seed)
        self.path = top / "r0"
        self.number = 0
        self.lock = threading.Lock()
        self.items = {}  # what an item comes back as, as JSON -> (value, expected)
        self.texts = {}  # id() of a value -> the same JSON
        self.seed = seed
        self.outcomes = {}  # identity without its occurrence -> what fn does
        self.calls = collections.Counter()
        self.known = {}  # identity -> how many are done
        names = []
        while len(names) < self.rng.choice([1, 1, 2]):
            name = self.rng.choice(["solution", "incorrect_solution", a_text(self.rng)])
            if name and clean(name) not in map(clean, names):
                names.append(name)
        self.groups = {name: f"field {i}" for i, name in enumerate(names)}
        self.samples = []
        integers = self.rng.random() < 0.2
        for _ in range(self.rng.randrange(1, 6)):
            self.add_sample(integers)
        self.log = []

    def add_sample(self, integers):
        new = self.rng.getrandbits(self.rng.choice([3, 62, 80])) if integers else a_text(self.rng) or "x"
        if clean(str(new)) in {clean(str(s["id"])) for s in self.samples}:
            return
        sample = {"id": new}
        for field in self.groups.values():
            sample[field] = [self.an_item() for _ in range(self.rng.randrange(5))]
        self.samples.append(sample)

    def an_item(self):
        if self.items and self.rng.random() < 0.2:
            return self.items[self.rng.choice(sorted(self.items))][0]
        value, expected = a_value(self.rng, 2, 0.2)
        text = text_of(expected)
        value = self.items.setdefault(text, (value, expected))[0]
        self.texts[id(value)] = text  # they are kept, so that no other object gets their place
        return value

    def text_of(self, item):
        """What distinguishes an item: the value that is read back."""
        return self.texts[id(item)]

    def outcome(self, identity):
        """kind, what fn returns, what comes back, a hint"""
        with self.lock:
            if identity not in self.outcomes:
                rng = random.Random(repr((self.seed, identity)))
                value, expected = a_value(rng)
                if not isinstance(expected, dict) or not isinstance(value, dict):
                    expected = {"value": expected}
                if (
                    expected is not None
                    and set(expected) == {"value"}
                    and isinstance(value, (np.void, pd.Series, pd.DataFrame))
                ):
                    value, expected = {"n": 1}, {"n": 1}
                kind = rng.choice(["ok", "ok", "ok", "retry", "error once", "error", "attempts"])
                self.outcomes[identity] = (
                    kind,
                    value,
                    expected,
                    {"h": a_value(rng, 1, 0.0)[0], "t": a_text(rng)},
                    a_text(rng),
                )
            return self.outcomes[identity]

    def fn(self, task):
        identity = (
            clean(str(task.sample_id)),
            task.group,
            self.places[clean(str(task.sample_id)), task.group, task.index],
        )
        kind, value, _, hint, text = self.outcome(identity)
        with self.lock:
            self.calls[identity] += 1
            self.ran[identity] += 1
        print(text)
        if kind == "retry" and not task.hint:
            return nbrun.Retry(text, hint=hint, result={"r": text})
        if kind == "error" or (kind == "error once" and self.generation == 0):
            raise ValueError(text)
        if isinstance(task.item, dict):
            task.item["changed"] = "by fn"
        return value

    def run(self, stop_after=None):
        self.ran = collections.Counter()
        self.places = self.by_place()
        fn = self.fn
        judge = lambda task: fn(task)  # noqa: E731
        judge.settings = {"n": 1, "text": "cut \ud83d", "big": 2**70}
        live = nbrun.start(
            self.samples,
            judge,
            self.path,
            groups=self.groups,
            workers=3,
            view=None,
            retry=None,
        )
        if stop_after is None:
            progress = live.wait(SECONDS)
            assert progress.state in ("done", "paused"), progress
            if progress.state == "paused":
                live.resume()
                progress = live.wait(SECONDS)
        else:
            while live.progress.done + live.progress.errors < stop_after and not live.progress.ended:
                threading.Event().wait(0.005)
            live.stop(drain=self.rng.random() < 0.5)
            assert live.wait(SECONDS).state in ("stopped", "done"), live.progress
        for identity, n in self.ran.items():
            kind = self.outcomes[identity][0]
            wanted = self.wanted()[identity]
            left = wanted - min(wanted, self.known.get(identity, 0))
            most = left * (2 if kind == "retry" else 1)
            assert n <= most, f"{identity} was called {n} times, {left} were left"
        repr(live), live._repr_mimebundle_(), repr(live.progress)
        return live.progress

    def by_place(self):
        return {
            (clean(str(s["id"])), clean(g), i): self.text_of(item)
            for s in self.samples
            for g, f in self.groups.items()
            for i, item in enumerate(s[f])
        }

    def wanted(self):
        return collections.Counter(
            (clean(str(s["id"])), clean(g), self.text_of(item))
            for s in self.samples
            for g, f in self.groups.items()
            for item in s[f]
        )

    def change(self):
        rng = self.rng
        rng.shuffle(self.samples)
        for s in self.samples:
            for field in self.groups.values():
                for _ in range(rng.randrange(3)):
                    what = rng.randrange(4)
                    if what == 0:
                        s[field].insert(rng.randrange(len(s[field]) + 1), self.an_item())
                    elif what == 1:
                        rng.shuffle(s[field])
                    elif what == 2 and s[field]:
                        s[field].pop(rng.randrange(len(s[field])))
                    elif s[field]:
                        s[field].append(rng.choice(s[field]))

    def tool(self):
        """Somebody does something with the directory."""
        rng = self.rng
        what = rng.choice(["rewrite", "rewrite", "archive", "unpack", "repair", "merge", "copy", "forget", "none"])
        self.log.append(what)
        if what == "rewrite":
            for p in self.path.glob("*.json"):
                if rng.random() < 0.7:
                    data = p.read_bytes()
                    if not data.startswith(b"\xff\xfe"):
                        p.write_bytes(rng.choice(REWRITES)(data.decode("utf-8-sig")))
        elif what == "archive":
            nbrun.archive(self.path)
        elif what == "unpack":
            nbrun.archive(self.path, unpack=True)
        elif what == "repair":
            report = str(nbrun.check(self.path, repair=True))
            assert "othing" in report, report
        elif what == "merge":
            self.number += 1
            target = self.path.with_name(f"r{self.number}")
            merge_results(target, self.path)
            self.path = target
        elif what == "copy":
            self.number += 1
            shutil.copytree(self.path, self.path.with_name(f"r{self.number}"))
            self.path = self.path.with_name(f"r{self.number}")
        elif what == "forget":
            shutil.rmtree(self.path / ".nbrun" / "cache", ignore_errors=True)
            (self.path / ".nbrun" / "known").unlink(missing_ok=True)

    # ---- all views against the model

    def look(self, complete):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            df = nbrun.load_results(self.path, entries=True, items=True, stale=not complete)
        assert not df.attrs.get("problems"), df.attrs
        wanted = self.wanted()
        places = self.by_place()
        done = collections.Counter()
        errors = collections.Counter()
        seen = set()
        for row in df[["sample_id", "group", "index", "status", "entry", "error"]].itertuples(index=False):
            where = str(row.sample_id), row.group, None if row.index is pd.NA else row.index
            if complete:
                assert where in places, (where, list(places))
                assert where not in seen, where
                seen.add(where)
                identity = (*where[:2], places[where])
            else:
                entry_item = row.entry.get("item", row.entry.get("solution"))
                identity = (*where[:2], text_of(entry_item))
            kind, _, expected, _, text = self.outcomes[identity]
            entry = row.entry
            item = self.items[identity[2]][1]
            if "solution" in entry:
                assert same({k: entry[k] for k in ("language", "solution") if k in entry}, item) or same(
                    entry["solution"], item
                ), entry
            else:
                assert same(entry["item"], item), (entry["item"], item)
            if row.status == "done":
                done[identity] += 1
                assert kind != "error"
                assert same(entry["result"], expected), (entry["result"], expected)
                assert entry["attempts"] == (2 if kind == "retry" else 1) or kind == "error once", entry["attempts"]
            else:
                errors[identity] += 1
                assert kind.startswith("error"), entry
                assert entry["error"]["type"] == "ValueError"
                assert clean(text) in entry["error"]["message"], (entry["error"], text)
        for identity, n in self.known.items():
            m = min(n, wanted[identity])
            assert done[identity] >= m, f"{identity}: {n} were done, {done[identity]} are left"
        for identity, n in done.items():
            self.known[identity] = max(n, self.known.get(identity, 0))
        if complete:
            for identity, n in wanted.items():
                assert done[identity] + errors[identity] == n, (identity, n)
                if self.outcomes[identity][0] == "error":
                    assert errors[identity] == n
        self.other_views(df, complete)

    def other_views(self, df, complete):
        def key(d):
            return sorted(
                (str(a), str(b), str(c)) for a, b, c in d[["sample_id", "group", "index"]].itertuples(index=False)
            )

        df = nbrun.load_results(self.path)
        now = key(df)
        chunks = list(nbrun.iter_results(self.path, chunksize=3))
        assert sorted(x for c in chunks for x in key(c)) == now
        table = nbrun.load_arrow(self.path)
        df = nbrun.load_results(self.path)
        assert table.num_rows == len(df)
        assert sorted(map(str, table["sample_id"].to_pylist())) == sorted(map(str, df.sample_id))
        status = nbrun.status(self.path)
        n_done, n_errors = int((df.status == "done").sum()), int((df.status == "error").sum())
        samples = nbrun.load_samples(self.path)
        if complete:
            assert (status.done, status.errors) == (n_done, n_errors), (status, n_done, n_errors)
            begun = [s for s in self.samples if any(s[f] for f in self.groups.values())]
            assert len(begun) <= len(samples) <= len(self.samples), (
                samples
            )  # after a merge those without items are unknown
            assert int(samples.errors.sum()) == n_errors, samples
            by = samples.set_index(samples.sample_id.astype(str))
            for s in begun:
                for g, f in self.groups.items():
                    row = by.loc[clean(str(s["id"]))]
                    assert row[f"total_{clean(g)}s"] == len(s[f]), (row, g)
        for source in (self.path, df):
            with contextlib.suppress(nbrun.errors.InputError):  # nothing was judged
                nbrun.rates(source)
        nbrun.unexpected(df)
        report = str(nbrun.check(self.path))
        assert "othing" in report, report
        for p in self.path.glob("*.json"):
            assert len(p.name.encode()) <= 143
        for s in self.samples[:3]:
            rows = read_rows(self.path, clean(str(s["id"])))
            mine = [x for x in now if x[0] == clean(str(s["id"])) and x[2] != "<NA>"]
            assert len(rows) == len(mine), (s["id"], len(rows), len(mine))
            if rows:
                str(nbrun.show(self.path, s["id"])), nbrun.show(self.path, s["id"])._repr_html_()
        out = self.path.with_name("out.jsonl")
        for suffix in self.rng.sample(["jsonl", "csv", "parquet"], 1):
            out = self.path.with_name(f"out.{suffix}")
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                assert cli.main(["export", str(self.path), str(out)]) == 0
            if suffix == "jsonl":
                assert len(out.read_text().split("\n")) == len(df) + 1
            out.unlink()


def try_seed(seed):
    """Raises AssertionError where a view and the model differ."""
    top = Path(tempfile.mkdtemp())
    world = World(seed, top)
    try:
        for world.generation in range(3):
            if world.rng.random() < 0.4:
                world.run(stop_after=world.rng.randrange(4))
                world.look(complete=False)
                world.tool()
                world.look(complete=False)
            world.run()
            world.look(complete=True)
            world.tool()
            world.look(complete=True)
            if world.rng.random() < 0.4:
                world.tool()
                world.look(complete=True)
            world.change()
    finally:
        shutil.rmtree(top, ignore_errors=True)


def main():
    failed = 0
    for seed in range(int(sys.argv[1]), int(sys.argv[2])):
        try:
            try_seed(seed)
        except BaseException as e:
            failed += 1
            print("SEED", seed, "".join(traceback.format_exception(e))[-900:], flush=True)
            if isinstance(e, KeyboardInterrupt):
                raise
    print(failed, "failed")


if __name__ == "__main__":
    main()
