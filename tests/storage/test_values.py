"""Results -> strict JSON and back, by the table of format.py: nothing changes in silence."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import json
import math
import pathlib
import shutil
import subprocess
import sys
import uuid

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nbrun
from nbrun.canonical import canonical
from nbrun.errors import UnstorableError
from nbrun.results import values
from nbrun.results.values import decode, dump, encode, load, pretty, without_surrogates_in


def strict(data):
    """Parsed by a reader that takes nothing but RFC 8259."""

    def refuse(text):
        raise AssertionError(f"{text} is no JSON")

    assert b"\n" not in data
    assert b"\t" not in data
    return json.loads(data.decode("utf-8"), parse_constant=refuse)


def same(a, b):
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
keys = text.map(lambda key: key.replace("$float", "$"))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)


@given(st.dictionaries(keys, json_values, max_size=6))
@settings(max_examples=400, deadline=None)
def test_what_json_can_hold_comes_back_as_it_was(value):
    data, lossy = encode(value)
    assert not lossy
    assert same(decode(strict(data)), value)
    assert same(decode(orjson.loads(data)) if not big_integers(value) else value, value)


@pytest.mark.parametrize(
    "value", [{"$float": ""}, {"$float": None}, {"$float": "nano"}, {"$float": [1]}, {"$float": {}}]
)
def test_a_mapping_that_looks_like_a_float_stays_what_it_is(value, tmp_path):
    nbrun.start([{"id": "s", "solutions": [1]}], lambda task: {"x": value}, tmp_path, view=None).wait(60)
    [entry] = nbrun.load_results(tmp_path, entries=True).entry
    assert entry["result"] == {"x": value}


def big_integers(value):
    if isinstance(value, dict):
        return any(map(big_integers, value.values()))
    if isinstance(value, list):
        return any(map(big_integers, value))
    return isinstance(value, int) and not -(2**63) <= value < 2**64


@given(st.text(st.characters(), max_size=30))
@settings(max_examples=300, deadline=None)
def test_lone_surrogates_are_marked(value):
    data, lossy = encode({"x": value})
    has = any(0xD800 <= ord(c) <= 0xDFFF for c in value)
    assert lossy == has
    assert strict(data)["x"] == "".join("\ufffd" if 0xD800 <= ord(c) <= 0xDFFF else c for c in value)


@dataclasses.dataclass
class Point:
    x: int
    y: float


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


TABLE = [
    ((1, 2), [1, 2]),
    (range(3), [0, 1, 2]),
    (collections.deque([1]), [1]),
    ({2, 1}, [1, 2]),
    (frozenset(["b", "a"]), ["a", "b"]),
    (2**80, 2**80),
    (1 + 2j, {"$complex": [1.0, 2.0]}),
    (decimal.Decimal("1.10"), "1.10"),
    (fractions.Fraction(1, 3), "1/3"),
    (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    (Point(1, math.inf), {"x": 1, "y": {"$float": "inf"}}),
    (Colour.RED, "red"),
    (Level.LOW, 1),
    (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "2026-01-02T03:04:05+00:00"),
    (dt.date(2026, 1, 2), "2026-01-02"),
    (dt.time(3, 4), "03:04:00"),
    (dt.timedelta(minutes=1.5), 90.0),
    (pathlib.PurePosixPath("a/b"), "a/b"),
    (b"\x00\xff", {"$bytes": "AP8="}),
    (bytearray(b"x"), {"$bytes": "eA=="}),
    ({2: "a", True: "b"}, {"2": "a", "true": "b"}),
    ({None: 1, 2.5: 2}, {"null": 1, "2.5": 2}),
    (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
]


def _name(value):
    """The same in every process: the order of a set of texts isn't."""
    return "frozenset" if isinstance(value, frozenset) else repr(value)[:24]


@pytest.mark.parametrize(("value", "stored"), TABLE, ids=_name)
def test_the_table(value, stored):
    assert strict(encode({"x": value})[0]) == {"x": stored}


def test_numpy_and_pandas():
    np, pd = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    for value, stored in [
        (np.int32(3), 3), (np.float32(0.5), 0.5), (np.float64("nan"), {"$float": "nan"}), (np.bool_(True), True),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]), (np.array([1.0, np.inf]), [1.0, {"$float": "inf"}]),
        (pd.Timestamp("2026-01-02"), "2026-01-02T00:00:00"), (pd.Series([1, 2]), [1, 2]),
        (np.timedelta64(5, "s"), 5.0), (np.timedelta64(5_000_000_000, "ns"), 5.0), (np.timedelta64(2, "25s"), 50.0),
        (np.timedelta64(3, "10s"), 30.0),
        (np.timedelta64(7, "M"), "P7M"), (np.timedelta64("NaT"), None), (np.timedelta64(3), 3),
        (np.array([1, 2], "m8[ms]"), [0.001, 0.002]), (pd.Timedelta("1min"), 60.0), (pd.NaT, None), (pd.NA, None),
        (np.datetime64("2020-01-02T03:04:05", "ns"), "2020-01-02T03:04:05.000000000"), (np.datetime64("NaT"), None),
        (np.datetime64("2020-01-02"), "2020-01-02"),
        (np.array(["2020-01-02"], "M8[ns]"), ["2020-01-02T00:00:00.000000000"]),
        (np.longdouble("1.5"), 1.5), (np.longdouble("0.1"), {"$longdouble": "0.1"}),
        (np.array([1.5], np.longdouble), [1.5]), (np.complex64(1 + 2j), {"$complex": [1.0, 2.0]}),
        (np.zeros(1, [("a", "i4"), ("b", "f8")]), [{"a": 0, "b": 0.0}]),
        (pd.Series([1, 2], index=["x", "y"]), {"x": 1, "y": 2}), (pd.Series([1, 2], index=[7, 3]), {"7": 1, "3": 2}),
        (pd.Series([1, 2], index=["x", "x"]), {"index": ["x", "x"], "data": [1, 2]}),
        (pd.Series([1, None], dtype="Int64"), [1, None]), (pd.array([1, None], dtype="Int64"), [1, None]),
        (pd.DataFrame({"a": [1, 2]}), {"a": {"0": 1, "1": 2}}),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), {"index": [0], "columns": ["a", "a"], "data": [[1, 2]]}),
        (pd.DataFrame({"a": [1, 2]}, index=["q", "q"]), {"index": ["q", "q"], "columns": ["a"], "data": [[1], [2]]}),
        (pd.Period("2020-01"), "2020-01"), (pd.Interval(0, 1), {"left": 0, "right": 1, "closed": "right"}),
        (pd.Categorical(["a", "b"]), ["a", "b"]), (pd.Index([1, 2]), [1, 2]),
    ]:  # fmt: skip
        assert strict(encode({"x": value})[0]) == {"x": stored}, value


def test_labels_that_only_equal_0_and_1_are_kept():
    import pandas as pd

    table = pd.DataFrame({"accepted": [False, True, True]}).groupby("accepted").size()
    assert decode(load(encode({"x": table})[0])) == {"x": {"false": 1, "true": 2}}
    assert decode(load(encode({"x": pd.Series([5, 6], index=[0.0, 1.0])})[0])) == {"x": {"0.0": 5, "1.0": 6}}


def test_numpy_s_booleans_are_keys_as_python_s_are():
    import numpy as np

    keys = {np.True_: 1, np.int64(2): 2, np.float32(0.1): 3}
    assert decode(load(encode({"x": keys})[0])) == {"x": {"true": 1, "2": 2, "0.1": 3}}


def test_a_timedelta_longer_than_64_bits_of_nanoseconds():
    import numpy as np
    import pandas as pd

    assert encode(pd.Timedelta(np.timedelta64(10**12, "s")))[0] == b"1000000000000.0"


def test_a_timedelta_with_more_digits_than_a_double_is_saved_with_all_of_them():
    import numpy as np
    import pandas as pd

    assert json.loads(encode({"max": dt.timedelta.max, "year": dt.timedelta(days=365, microseconds=5)})[0]) == {
        "max": "PT86399999999999.999999S",
        "year": 31536000.000005,
    }
    for value in (np.timedelta64(2**63 - 1, "ns"), pd.Timedelta(2**63 - 1, "ns")):
        assert encode(value)[0] == b'"PT9223372036.854775807S"'
    assert encode(np.timedelta64(-(2**62) - 1, "s"))[0] == b'"PT-4611686018427387905S"'
    assert encode(pd.Timedelta(days=365, milliseconds=7))[0] == b"31536000.007"


def test_types_that_derive_from_known_ones_keep_what_they_hold():
    import numpy as np
    import pandas as pd

    class Column(pd.Series):
        pass

    class Table(pd.DataFrame):
        pass

    class Vector(np.ndarray):
        pass

    class Price(decimal.Decimal):
        pass

    class RowId(uuid.UUID):  # drivers of databases have such
        pass

    for derived, base in (
        (Column([1, 2], index=["x", "y"]), pd.Series([1, 2], index=["x", "y"])),
        (Column(pd.to_timedelta([5], "s")), pd.Series(pd.to_timedelta([5], "s"))),
        (Table([[1, 2]], columns=["a", "a"]), pd.DataFrame([[1, 2]], columns=["a", "a"])),
        (np.array([5], "m8[ns]").view(Vector), np.array([5], "m8[ns]")),
        (np.array([5], "M8[ns]").view(Vector), np.array([5], "M8[ns]")),
        (Price("1.10"), decimal.Decimal("1.10")),
        ({Price("1.10"): 1}, {decimal.Decimal("1.10"): 1}),
        (RowId(int=7), uuid.UUID(int=7)),
    ):
        assert encode({"x": derived}) == encode({"x": base})
    for derived, base in ((Price("1.10"), decimal.Decimal("1.10")), (RowId(int=7), uuid.UUID(int=7))):
        assert canonical(derived) == canonical(base)


class Stubborn:
    """A value whose own conversion fails, as a tensor on a device that was lost does."""

    def tolist(self):
        raise ValueError("the device is gone")


@dataclasses.dataclass
class Incomplete:
    n: int


class Unreadable(collections.abc.Mapping):
    def __len__(self):
        return 1

    def __iter__(self):
        return iter(["a"])

    def __getitem__(self, key):
        raise OSError("the database is closed")


def stubborn_values():
    without_a_field = Incomplete(1)
    del without_a_field.n
    return [Stubborn(), without_a_field, Unreadable()]


@pytest.mark.parametrize("value", stubborn_values(), ids=lambda value: type(value).__name__)
def test_a_value_that_cannot_be_read_is_refused_by_name(value):
    with pytest.raises(UnstorableError, match=rf"result\['x'\]\[1\].*{type(value).__name__}.*Error"):
        encode({"x": [0, value]})
    with pytest.raises(TypeError, match=type(value).__name__):
        canonical(value)


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("place", ["result", "hint", "previous"])
def test_a_value_that_cannot_be_read_costs_its_own_task_only(place, number, tmp_path):
    def fn(task):
        if task.item == 0:
            return {"n": 0}
        x = {"x": stubborn_values()[task.item - 1]}
        if place == "result":
            return x
        return nbrun.Retry("again", hint=x) if place == "hint" else nbrun.Retry("again", result=x)

    samples = [{"id": "a", "items": [0, 1 + number]}]
    run = nbrun.start(samples, fn, tmp_path, groups=["item"], view=None, retry=None)
    progress = run.wait(60)
    assert (progress.state, progress.done, progress.errors) == ("done", 1, 1)


@pytest.mark.parametrize("number", range(3))
def test_an_item_that_cannot_be_read_is_refused_before_the_work(number, tmp_path):
    samples = [{"id": "a", "items": [{"q": stubborn_values()[number]}]}]
    calls = []
    with pytest.raises(nbrun.errors.NbrunError, match="item 0"):
        nbrun.start(samples, calls.append, tmp_path, groups=["item"], view=None).wait(60)
    assert not calls


def test_an_integer_that_would_be_read_for_an_hour_is_refused_and_is_damage():
    number = 1 << 33_300_000
    with pytest.raises(UnstorableError, match=r"result\['n'\].*digits"):
        encode({"n": number})
    with pytest.raises(ValueError, match="digits"):
        load(b'{"n":%b}' % (b"7" * 10_000_001))


@pytest.mark.parametrize(
    "value",
    [object(), lambda: 0, open, {"a": {"b": [1, {2, object()}]}}, {(1, 2): 3}, {1: 0, "1": 0}],
    ids=lambda v: repr(v)[:12],
)
def test_what_json_cannot_hold_is_refused(value):
    with pytest.raises(UnstorableError, match="result"):
        encode({"x": value})


def test_a_value_that_contains_itself_is_refused():
    loop = []
    loop.append(loop)
    with pytest.raises(UnstorableError, match="itself"):
        encode({"x": loop})


def test_an_unstorable_result_costs_its_own_task_only(tmp_path):
    def fn(task):
        return {"x": object()} if task.item == 1 else {"x": math.nan}

    samples = [{"id": "s", "solutions": [0, 1, 2]}]
    progress = nbrun.start(samples, fn, tmp_path, groups=["solution"], view=None).wait(60)
    assert (progress.done, progress.errors) == (2, 1)
    df = nbrun.load_results(tmp_path)
    assert "object" in df.error.dropna().iloc[0]
    assert all(math.isnan(x) for x in df[df.status == "done"].x)


# ---- integers of any size


@given(st.integers(60, 5000), st.booleans(), st.integers(0, 400), st.sampled_from(["", " ", "\n"]))
@settings(max_examples=300, deadline=None)
def test_integers_of_any_size_come_back_wherever_they_are(bits, negative, padding, space):
    number = (-1 if negative else 1) * ((1 << bits) + 12345)
    digits = str(number)
    data = f'{{"p":"{"x" * padding}","a":{space}{digits}{space},"b":[{space}{digits}],"q":"{digits}"}}'.encode()
    assert load(data) == {"p": "x" * padding, "a": number, "b": [number], "q": digits}
    assert load(dump({"n": number, "p": "x" * padding})) == {"n": number, "p": "x" * padding}


@pytest.mark.parametrize(
    "number", [10**309, 10**4000, -(10**20_000) - 7, 2**64, -(2**63) - 1, 2**64 - 1], ids=int.bit_length
)
def test_more_digits_than_python_converts(number):
    data, lossy = encode({"n": [number], number: 1})
    assert not lossy
    assert load(data)["n"] == [number]
    assert values.digits_of(number) in load(data)
    assert str(number)[:10] in pretty({"n": number}) if abs(number) < 10**4000 else pretty({"n": number})


def test_other_numbers_are_read_as_before():
    for data in (
        b"[0.1111111111111111111111111]",
        b"[1e300,-1e-300]",
        b"[1790000000000000000]",
        b"[1%b.5]" % (b"0" * 30),
    ):
        assert load(data) == orjson.loads(data)
        assert list(map(type, load(data))) == list(map(type, orjson.loads(data)))
    for data in (b"[NaN]", b"[NaN,%b]" % (b"9" * 30), b"[%b" % (b"9" * 30), b"[[" * 5000 + b"9" * 30):
        with pytest.raises(ValueError):  # noqa: PT011 - whichever parser it was
            load(data)


def test_lone_surrogates_that_another_program_escaped():
    assert load(b'{"a":"cut \\ud83d","\\udc00":1}') == {"a": "cut \ufffd", "\ufffd": 1}
    assert load(dump(["cut \ud83d"])) == ["cut \ufffd"]


@given(json_values)
@settings(max_examples=200, deadline=None)
def test_pretty_shows_any_value(value):
    pretty(value).encode()
    assert "object" in pretty({"x": object()})


LIMITED = """
import resource, sys, tempfile
import pandas
import nbrun

used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 500 * 2**20, resource.RLIM_INFINITY))

def fn(task):
    return {"text": "é\\n" * (task.item << 19), "n": 10**30}

path = tempfile.mkdtemp()
samples = [{"id": str(n), "items": [n]} for n in (1, 8, 400)]
run = nbrun.start(samples, fn, path, groups=["item"], workers=1, view=None, retry=None)
progress = run.wait(100)
df = nbrun.load_results(path)
done = df[df["status"] == "done"]
print(progress.done, progress.errors, [(len(text), n) for text, n in zip(done["text"], done["n"])])
print(df["error"].dropna().tolist())
"""


def test_a_process_with_little_memory_gets_an_error_for_what_is_too_large(tmp_path):
    """orjson would crash it: it doesn't look whether its buffer could grow."""
    ran = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    counts, errors = ran.stdout.splitlines()
    assert counts == f"2 1 [({2 << 19}, {10**30}), ({2 << 22}, {10**30})]"
    assert "MemoryError" in errors


def test_hints_and_results_of_attempts_come_back_as_they_were_given(tmp_path):
    """In the same run, and in the next one after an interruption."""
    given = {"inf": -math.inf, "big": 2**70, "list": [1.5, {"nan": math.nan}], "text": "x"}
    seen = []

    def fn(task):
        if task.attempt == 1:
            return nbrun.Retry("later", hint=given, result={"value": math.inf})
        if task.attempt == 2 and not seen:
            shutil.copytree(tmp_path / "r", tmp_path / "copy")
        seen.append((task.attempt, task.hint, task.previous))
        return {"n": 1}

    samples = [{"id": "a", "items": ["x"]}]
    nbrun.start(samples, fn, tmp_path / "r", groups=["item"], view=None).wait(60)
    nbrun.start(samples, fn, tmp_path / "copy", groups=["item"], view=None).wait(60)
    assert [attempt for attempt, _, _ in seen] == [2, 2]
    for _, hint, previous in seen:
        assert repr(hint) == repr(given)
        assert previous == {"value": math.inf}


def test_json_that_is_nested_deeper_than_functions_may_be_is_read_without_lone_surrogates():
    deep = {"cut \ud83d": ["cut \ud83d"]}
    for _ in range(5000):  # since Python 3.12 the parser accepts that
        deep = [deep]
    found = without_surrogates_in(deep)
    for _ in range(5000):
        (found,) = found
    assert found == {"cut \ufffd": ["cut \ufffd"]}


PLACES = {
    "alone": lambda part: {"n": 1, "part": part},
    "beside a list": lambda part: {"n": [1], "part": part, "x": {}},
    "in a list": lambda part: {"part": [1, [part]]},
    "deep in mappings": lambda part: {"part": {"a": {"b": {"c": {"d": part}}}}},
    "in a tuple of a list": lambda part: {"part": [{"a": (part,)}]},
}


@pytest.mark.parametrize("place", PLACES)
def test_json_that_is_given_as_text_is_saved_as_what_it_says(tmp_path, place):
    """orjson writes its fragments unread: with their line breaks, and whether they are one value of JSON or not."""
    put = PLACES[place]
    good = {"lines": b'{"a":\n [1, null]\n}', "line": b'{"a":[1,"x"]}'}
    bad = {"cut": b'{"a":[1', "bytes": b'"\xff"', "word": b"NaN", "two": b"1,2", "none": b""}
    bad["more"] = b'1}],"n":[{"a":2'
    texts = {**good, **bad}
    run = nbrun.start(
        [{"id": name, "items": ["x"]} for name in texts],
        lambda task: put(orjson.Fragment(texts[task.sample_id])),
        tmp_path,
        groups=["item"],
        view=None,
        retry=None,
    )
    run.wait(60)
    df = nbrun.load_results(tmp_path).set_index("sample_id")
    assert dict(df["status"]) == {**dict.fromkeys(good, "done"), **dict.fromkeys(bad, "error")}
    said = [put(orjson.loads(text))["part"] for text in good.values()]
    assert list(df["part"][list(good)]) == json.loads(json.dumps(said))
    assert df["error"][list(bad)].str.contains(r"part'\].* is a orjson\.Fragment").all()
    assert nbrun.check(tmp_path).is_ok
