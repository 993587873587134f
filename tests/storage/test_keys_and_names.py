"""Golden keys and file names: a directory written today must be found by every later version (F9, F11)."""

import datetime as dt
import decimal
import fractions
import math
import pathlib
import unicodedata
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nbrun
from nbrun.canonical import canonical, digest, key_text
from nbrun.results.format import name_of

GOLDEN_FORMS = [
    (None, b"n"),
    (True, b"t"),
    (False, b"f"),
    (0, b"i0;"),
    (-12, b"i-12;"),
    (2**70, b"i1180591620717411303424;"),
    (1.5, b"d3ff8000000000000;"),
    (-0.0, b"d0000000000000000;"),
    (1e16, b"d4341c37937e08000;"),
    (math.nan, b"dnan;"),
    (math.inf, b"d7ff0000000000000;"),
    ("", b"s0:"),
    ("é中", b"s5:\xc3\xa9\xe4\xb8\xad"),
    ("a\ud800", b"s4:a\xed\xa0\x80"),
    (b"\x00\xff", b"b2:\x00\xff"),
    ([1, [True, "t"]], b"[i1;[ts1:t]]"),
    ((1,), b"[i1;]"),
    ({"b": 1, "a": None}, b"{s1:ans1:bi1;}"),
    ({1: "x", "1": "y"}, b"{i1;s1:xs1:1s1:y}"),
    ({3, 1}, b"<i1;i3;>"),
    (dt.date(2026, 1, 2), b"Ts10:2026-01-02"),
    (pathlib.PurePosixPath("a/b"), b"s3:a/b"),
    (decimal.Decimal("1.10"), b"Xs7:decimals4:1.10"),
    (uuid.UUID(int=5), b"Xs4:uuids36:00000000-0000-0000-0000-000000000005"),
    (fractions.Fraction(1, 3), b"Xs8:fractions3:1/3"),
    (dt.timedelta(days=1, microseconds=5), b"Xs9:timedeltai86400000005000;"),
    (1 + 2j, b"Xs7:complex[d3ff0000000000000;d4000000000000000;]"),
]
GOLDEN_KEYS = [
    ({"language": "PYTHON3", "solution": "print(1)"}, "k1:da05cd4b48f6df3449035c240cc784c0"),
    ("print(1)", "k1:a2a0503919cdbda2007bbda7b7560278"),
    ({"prompt": "2+2", "n": 3, "t": 0.7}, "k1:de023f6dffe24d0db66b5aab556cf16b"),
]


@pytest.mark.parametrize(("value", "form"), GOLDEN_FORMS, ids=lambda v: repr(v)[:20])
def test_f9_the_canonical_form(value, form):
    assert canonical(value) == form


@pytest.mark.parametrize(("value", "key"), GOLDEN_KEYS, ids=lambda v: repr(v)[:20])
def test_f9_golden_keys(value, key):
    assert key_text(digest(value)) == key


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def same(a, b):
    """Equality that distinguishes 1 from True and from 1.0, as JSON's readers do; lists and tuples are one thing."""
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and a == b


@given(plain, plain)
@settings(max_examples=300, deadline=None)
def test_f9_equal_values_and_only_they_have_equal_forms(a, b):
    assert (canonical(a) == canonical(b)) == same(a, b)
    if isinstance(a, dict):
        assert canonical(dict(reversed(list(a.items())))) == canonical(a)


def test_f9_numpy_and_frames_have_the_keys_of_what_they_hold():
    np = pytest.importorskip("numpy")
    for value, equal in [
        (np.int64(3), 3), (np.float64(0.5), 0.5), (np.float32(0.5), 0.5), (np.bool_(True), True),
        (np.str_("x"), "x"), (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.datetime64("2026-01-02"), dt.date(2026, 1, 2)),
    ]:  # fmt: skip
        assert canonical(value) == canonical(equal), value


def test_f9_what_numpy_and_pandas_alone_know():
    np, pd = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    for value, form in [
        (pd.NA, b"n"), (pd.NaT, b"Ts3:NaT"), (np.longdouble("1.5"), b"d3ff8000000000000;"),
        (np.longdouble("0.1"), b"Xs10:longdoubles3:0.1"), (np.timedelta64(5, "ns"), b"i5;"),
        (np.datetime64("1970-01-01", "ns"), b"i0;"), (pd.Timedelta("1s"), b"Xs9:timedeltai1000000000;"),
        (pd.Timedelta("1ns"), b"Xs9:timedeltai1;"), (np.timedelta64(1, "s"), b"Xs9:timedeltai1000000000;"),
        (pd.Period("2020-01", "M"), b"Xs6:period[s1:Ms7:2020-01]"), (pd.Series([1]), b"[i1;]"),
        (pd.Interval(0, 1), b"Xs8:interval[i0;i1;s5:right]"), (pd.Categorical(["a"]), b"[s1:a]"),
        (np.complex64(1 + 2j), canonical(1 + 2j)), (pd.Timestamp("2020-01-01"), b"Ts19:2020-01-01T00:00:00"),
    ]:  # fmt: skip
        assert canonical(value) == form, value
    assert canonical(10**5000) == b"i1" + b"0" * 5000 + b";"


GOLDEN_NAMES = [
    ("p1", "p1.json"),
    ("P1", "P1~mp2554jpzu6ra.json"),
    ("Codeforces/1/A", "Codeforces_1_A~226htjl5nv45e.json"),
    ("con.txt", "_con.txt~hyptw3umyjdpq.json"),
    ("-rf", "rf~xtbxxpkiura76.json"),
    ("中文 题", "中文_题~w46glw5z35hyc.json"),
]
HARD_IDS = [
    "a/b", "a_b", "a\\b", "A_B", "a:b", "a b", " a", "a ", "a.", "a..", ".a", "..", ".", "a\x00b", "a\nb",
    "a\tb", 'a"b', "a'b", "a`$b", "é", unicodedata.normalize("NFD", "é"), "É", "ﬁ", "fi", "😀", "👩‍👩‍👧",
    "中文", "x" * 300, "X" * 300, "x" * 299 + "y", "中" * 300, "con", "CON", "con.txt", "nul", "lpt1",
    "com9.x", "aux", "a~b", "a~226htjl5nv45e", "-rf", "--help", "~", "%2f", "a%b", "*", "?", "|",
    "progress", "a.json", ".nbrun", "a.tmp", "\u202egpj", "ß", "SS", "ss", "ı", "İ", "i", "I", "K", "K",
]  # fmt: skip


@pytest.mark.parametrize(("sample_id", "name"), GOLDEN_NAMES)
def test_f11_golden_names(sample_id, name):
    assert name_of(sample_id) == name


def check_name(name):
    assert name.endswith(".json")
    assert len(name.encode()) <= 128
    assert not set(name) & set(" \t\n\r\"'`$\\/:*?<>|\x00"), name
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zs", "Zl", "Zp") for c in name), ascii(name)
    assert not name.startswith((".", "-")), name
    assert name.split(".")[0].lower() not in {"con", "prn", "aux", "nul", "com1", "lpt1"}


def as_a_blind_disk_sees_it(name):
    """Case-blind, and blind to Unicode's forms (APFS, NTFS, ext4 with casefold)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def test_f11_names_of_hard_ids():
    ids = list(dict.fromkeys(HARD_IDS))
    for sample_id in ids:
        check_name(name_of(sample_id))
    assert len({as_a_blind_disk_sees_it(name_of(i)) for i in ids}) == len(ids)


@given(st.text(min_size=1, max_size=80), st.text(min_size=1, max_size=80))
@settings(max_examples=500, deadline=None)
def test_f11_two_ids_never_share_a_name(a, b):
    for sample_id in (a, b):
        check_name(name_of(sample_id))
    if a != b:
        assert as_a_blind_disk_sees_it(name_of(a)) != as_a_blind_disk_sees_it(name_of(b))


@given(st.text(min_size=1, max_size=20))
@settings(max_examples=300, deadline=None)
def test_f11_ids_that_a_disk_could_mix_up(a):
    forms = {a, a.upper(), a.lower(), a.swapcase(), *(unicodedata.normalize(f, a) for f in ("NFC", "NFD", "NFKC"))}
    names = {as_a_blind_disk_sees_it(name_of(form)) for form in forms}
    assert len(names) == len(forms)


def test_a_run_with_hard_ids(tmp_path):
    """Each is saved under its own id, in its own file, and is found again."""
    ids = list(dict.fromkeys(HARD_IDS))
    samples = [{"id": i, "solutions": [n]} for n, i in enumerate(ids)]
    nbrun.start(samples, lambda task: {"n": task.item}, tmp_path, groups=["solution"], view=None).wait(60)
    df = nbrun.load_results(tmp_path)
    assert dict(zip(df.sample_id.astype(str), df.n.astype(int), strict=True)) == {i: n for n, i in enumerate(ids)}
    assert len(list(tmp_path.glob("*.json"))) == len(ids)
    again = nbrun.start(samples, lambda task: 1 / 0, tmp_path, groups=["solution"], view=None).wait(60)
    assert (again.resumed, again.errors) == (len(ids), 0)
