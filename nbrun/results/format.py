"""The format of a results directory, version nbrun/1: terms, tree, records, invariants. Code below ties it to bytes.

Terms
-----
An *entry* is one task's saved outcome, a JSON object on one line. Its *identity* is (sample id, group, key,
occurrence). A *record* is a line of a log. A *segment* is one journal file. *Saved* means: fsync has returned.

Tree
----
    results/
      <name>.json               one a sample; its layout is below
      archive-0001.zip          finished samples' files, compressed; see listing.py
      .nbrun/
        journal-00000007.log    segments, in the order of their numbers. A copy that a program has made under a longer
                                name, such as "journal-00000007 (1).log", is read before them
        matched.log             match records: which entry of an old file is which item
        archived.log            members of archives that no longer count
        runs.log                run records: the settings under which results were made
        lock                    held (flock) by the process that writes; names host, pid and start
        samples                 the ids of the newest run's samples and their tasks, where all were known at its start
        running                 which tasks are in flight, or about to be; empty after a clean end
        unclean.log             the content of `running` after each unclean end
        tmp/                    files being written; what is left there has no meaning
        damaged/                what could not be read, kept aside
        cache/, known           derived data, such as indexes of large files; may be deleted at any time
    Nothing in .nbrun/ ends in .json. `.results.merging` beside it is a directory that `nbrun merge` has not finished.

Records
-------
A record is `CRC TAB KIND TAB BODY [TAB WHOSE] LF`. CRC is CRC-32 (zlib) of all between the first tab and the line feed,
in 8 lower-case hexadecimal digits. BODY and WHOSE are JSON without raw control characters, so a tab or a line feed
never occurs inside them and reading can begin again after any damaged line. A log whose line ends became CR LF (git on
Windows does that) means the same. A right checksum says that a record is as
it was written and no more: one that lacks a key, or holds another type, counts as damaged too (see replay.py).

    h   header   {"id","name","totals":{group:n},"context"}: precedes a sample's first record in a segment
    e   entry    the entry as it will be in the file; WHOSE is ["id","group"]
    a   attempt  {"key","occurrence","attempt","reason","hint","previous","exceptions"}; WHOSE is ["id","group"]
    m   match    {"seq","id","size","crc","totals","completed"?,…,"groups":{group:[[index,key,occurrence],…]}}: for an
                 old file of that size and CRC-32, the place and identity of each entry, in the file's order; index
                 null: it matches no item. "groups" is the last key, so that the rest is read without it
    x   archived {"archive","name","id"}: that member no longer counts, its sample has a file of its own again
    r   run      {"run_id","seq","started_at","host","pid","nbrun","settings","settings_version"?,"given_settings"?,…};
                 see Settings below; "ids"?: "integers" where every sample id was given as an integer, else "text" (a
                 stream that turns out to be mixed appends its record again). Frames have integer ids where a run says
                 "integers" and none says "text"
    u   unclean  {"run_id","seq","running":[fingerprint,…]}: the tasks in flight when that run died; a fingerprint is 32
                 bytes in hexadecimal: BLAKE2b-96 of TAB WHOSE, the occurrence (32 bits, little endian), the key

A sample's file
---------------
    {
    "format": "nbrun/1",
    "id": "Codeforces/1/A",
    "solution_result": [
    {"index":0,"key":"k1:9f2c…","occurrence":0,"seq":12,"status":"done", …},
    {"index":2, …}
    ],
    "incorrect_solution_result": [
    ],
    "api_used": "local",
    "worker_id": "host:3",
    "summary": {"max_seq":31,"identities":"…","done":3,"errors":{…},"verdicts":{…},"runs":{…},"contexts":{…},
    "unexpected":0,"check":"1f0c…"},
    "progress": {"completed_solutions": 2, "total_solutions": 3, …, "is_complete": false}
    }

Entries are in the order of their index; those whose item is no longer in the dataset come last, with `"index":null`.
An entry begins with index, key, occurrence, seq, status, in this order, so that a reader knows what it is without
parsing it. Its other keys: language?, solution? (an item of just these two), item? (any other), result, attempts,
started_at (seconds since the epoch), duration_s, error? (type, message, traceback), run_id, context, worker_id,
api_used, lossy?, output? (of an error the end of what its task printed, at most 4 KB). The summary, one line, lets a
finished file be recognised by its tail alone; its `check` is the CRC-32 of the id and of the summary without it, both
as JSON, in 8 hexadecimal digits. Its `unexpected` counts rejected
results of the group solution and accepted ones of groups incorrect_…; absent where a sample has none of these groups.

A file that another tool has re-serialised (indented, on one line, with sorted keys, CRLF or a byte order mark) means
the same: its `format` field says what it is. Readers count what its summary says from its entries, since the check
holds for the layout above only; a run that changes the sample writes its file in that layout again. Top-level keys that
another tool has added are kept, one per line, before the summary. Of an entry index and occurrence have at most 9
digits, seq at most 18, and status is `done` or `error`; anything else is damage.

Values
------
A result becomes strict JSON (RFC 8259, UTF-8). By type:

    mapping                      object; keys that are no text become text: 1 -> "1", True -> "true", None -> "null"
    list, tuple, range, deque    array        set, frozenset    array, sorted where it can be
    float nan, inf, -inf         {"$float": "nan"}, {"$float": "inf"}, {"$float": "-inf"}
    int of up to 10^7 digits     number       complex           {"$complex": [re, im]}
    numpy scalar, array          number, nested array           Decimal, Fraction, UUID      text
    dataclass                    object of its fields           Enum    its value
    datetime, date, time         ISO 8601     timedelta         seconds; with more digits than a double "PT…S"
    numpy.datetime64             ISO 8601     numpy.timedelta64 the same; of months or years ISO 8601, such as "P5M"
    numpy.longdouble             number where a double holds it, else {"$longdouble": its digits}
    record of a numpy array      object of its fields
    pandas NA, NaT; numpy NaT    null         pandas Timestamp  ISO 8601
    pandas Timedelta             seconds      Period            text
    pandas Interval              {"left": …, "right": …, "closed": …}
    pandas Series                array where its labels are the integers 0, 1, 2 …, else {label: value, …}; where two
                                 labels are the same, or are tuples, {"index": […], "data": […]}
    pandas DataFrame             {column: {label: value, …}, …}; where labels or columns occur twice, or are tuples,
                                 {"index": […], "columns": […], "data": [[a row], …]}
    Index, Categorical, arrays   array        Path              text
    bytes                        {"$bytes": base64}
    type derived from these      what the type above becomes
    lone surrogate in a text     U+FFFD, and the entry gets "lossy": true; in names, reasons, ids and settings U+FFFD
    anything else                UnstorableError: the task's error entry

A reader must not parse integers as doubles: `values.load` finds those beyond 64 bits and parses them exactly.

Totals
------
A run record holds how many samples and tasks the run was given, so that what was never begun counts as missing:
`"samples": n, "tasks": {group: n}`, each null while a stream is still read; a later record of the same run_id replaces
the earlier one. `samples_digest` names the content of `samples` (BLAKE2b-128): JSON lines, first the groups, then for
each sample its id and its tasks by group. The file may be deleted, or be older than the record: then only the sums are
known. Records without "samples" are by an older nbrun. A merge appends a record with the samples of all directories,
where each of them lists its own.

Settings
--------
A run record holds the settings of its results; each entry names its run. `given_settings` is what `settings=`
of start() gave. `settings` is `fn.settings`, or of a function without them, from settings_version 2 on,

    {"function": name, "code": {name: [tree, instructions, python]}, "values": {name: digest}}

with digests of the syntax tree ("" where no source is known) and of the instructions, which only the same version of
Python can compare, for fn and each function of its module that it uses, and digests of simple values that they refer
to. Records without a settings_version hold {"function", "source"}, a digest of the source in which comments count.

Invariants
----------
F1  A result is saved by appending one record; what it costs depends on that result alone. Where all results of a
    sample come together and none is an error, its file is written directly instead (F6), and they count as saved when
    the folder was fsynced.
F2  Every record carries its checksum; a record that fails it costs itself alone.
F3  A torn tail is cut before anything is appended. A new run appends to a segment of its own.
F4  seq grows over the directory's life, in the order of the journal. Of two entries of one identity a result wins over
    an error, then the higher seq. No error is written for an identity that has a result: where making it again fails,
    the result stays. A file holds one entry of each; one that a text tool has put together may hold several.
F5  A sample's file holds every entry of that sample with a seq up to its summary's max_seq. So a run may delete a
    segment once each of its samples has a file whose max_seq is at least theirs. The next start looks at the entries
    themselves, since files of another copy of the directory may have been put there.
F6  A sample's file is replaced whole: written beside, fsynced, renamed; the folder is fsynced before a segment goes.
    One thread at a time writes it.
F7  Readers read the journal first, then the files, and list again when a segment has vanished meanwhile.
F8  After a failed write or fsync a segment is never written again: what it had not acknowledged goes to a new one.
F9  Keys are `k1:` and BLAKE2b-128 over the canonical form: n (none), t, f (booleans), i<decimal>; (integers), d<16 hex
    digits of the IEEE 754 double, big endian>; (floats; -0.0 as 0.0; NaN as dnan;), s<byte length>:<UTF-8> (text),
    b<length>:<bytes>, [<items>] (lists), {<key><value>…} (mappings, sorted by the key's canonical bytes), <…>
    (sets, sorted), T<text> (dates), X<text: the type's name><content> (what JSON has no type for: decimal, fraction,
    uuid as text; timedelta in nanoseconds; complex [re, im]; period [frequency, text]; interval [left, right, closed];
    longdouble as text where no double holds it; frame [labels, column names, columns]). pandas.NA is n, range and
        deque are lists, an Enum is its value, a scalar of arrow what it is in Python.
    A start with another `key=` finds entries by the items that they hold, and writes their file with the new keys.
F10 Nothing is ever deleted to get on: what can't be read moves to .nbrun/damaged/.
F11 A name is readable, holds no spaces, quotes or control characters, has at most 128 bytes, and differs from every
    other id's name even where the file system ignores case or normalises Unicode: an id that is not already such a
    name gets `~` and a digest of itself appended, and no id that holds a `~` is taken as it is.
F12 A sample that is in an archive and in a file of its own is what the file says, unless that has the lower max_seq: an
    old copy was put there. A file is removed only after the archive that holds it was fsynced and read back; an archive
    only after each of its samples has a file that lacks nothing of it.

History
-------
nbrun/1     this page. Added later: `unexpected` in summaries and match records (absent: not counted); `completed` in
            match records (absent: count the groups); values of numpy and pandas that had lost their type or their
            labels (times, Series, DataFrames, derived types); the canonical forms X, of values that had none; U+FFFD
            for lone surrogates in ids and names (ids had "?"); `exceptions` in attempt records: how many of the
            attempts so far ended in one (absent: 0); `ids` in run records (absent: ids count as text). Names of new
            files had up to 200 bytes and have up to 128: encrypted disks allow 143, and a file has a longer name while
            it is written. At first only files in the layout above were read as nbrun's own, and keys that another tool
            had added were dropped when a file was written. Readers took the entry with the higher seq whatever its
            status (F4), and a file before an archive whatever their max_seq (F12).
progress    the older program's second format: indent=4, lists in the order of completion, entries {language, solution,
            result}, a `progress` object. Read and continued, never written.
legacy      its first format: the same without `progress`; a file exists only once its sample was finished. Read and
            continued, never written.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from typing import Final, NamedTuple, NotRequired, Required, TypeAlias, TypedDict, TypeGuard
from zlib import crc32

import orjson

from nbrun.canonical import blake2b
from nbrun.texts import without_surrogates

FORMAT = "nbrun/1"
FOLDER = ".nbrun"
CRC_HEX = 8
SEGMENT_NAME = re.compile(r"journal-(\d{8,})\.log")
#: A segment that a program which syncs folders, or a download, has given another name.
RENAMED_SEGMENT = re.compile(r"journal-\d{8,}.+\.log", re.DOTALL)
#: A segment with a higher number is not of nbrun. It is read as others are, and such numbers are never given.
MAX_SEGMENT = 10**9
#: The highest seq that is read, and index and occurrence. What is beyond is damage.
MAX_SEQ, MAX_INDEX = 10**18 - 1, 10**9 - 1
#: An entry's first five keys, in their order. Groups: index or null, key, occurrence, seq, status.
ENTRY_HEAD = re.compile(
    rb'\{"index":(\d{1,9}|null),"key":"k1:([0-9a-f]{32})","occurrence":(\d{1,9}),"seq":(\d{1,18}),'
    rb'"status":"(done|error)"'
)


class Head(NamedTuple):
    """An entry's first five keys."""

    item_index: int | None
    key: bytes
    occurrence: int
    seq: int
    status: str


def head_of(entry: bytes) -> Head | None:
    """Return the first five keys of an entry's bytes; None where they are no entry of this format."""
    found = ENTRY_HEAD.match(entry)
    if found is None:
        return None
    index, key, occurrence, seq, status = found.groups()
    return Head(
        None if index == b"null" else int(index),
        bytes.fromhex(key.decode()),
        int(occurrence),
        int(seq),
        status.decode(),
    )


#: What separates two entries in a file.
BETWEEN = b",\n"
#: What a run record says of its samples' ids under `ids`.
INTEGER_IDS, TEXT_IDS = "integers", "text"
ENTRY: Final = b"e"
HEADER: Final = b"h"
ATTEMPT: Final = b"a"
MATCH: Final = b"m"
ARCHIVED: Final = b"x"
RUN: Final = b"r"
UNCLEAN: Final = b"u"
CRC_OF_ENTRY_KIND = crc32(ENTRY + b"\t")


# ---- what parsed JSON, entries, records and summaries hold, once replay.py and sample_file.py have checked them

#: What a parser of JSON returns.
JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]


class TaskError(TypedDict):
    """The error that a task ended in."""

    type: str
    message: str
    traceback: NotRequired[str]


class Entry(TypedDict, total=False):
    """One task's saved outcome. The required keys are those that `sample_file.parse_entry` has checked."""

    index: Required[int | None]
    key: Required[str]
    occurrence: Required[int]
    seq: Required[int]
    status: Required[str]
    result: Required[JsonValue]
    run_id: Required[str]
    context: Required[str]
    worker_id: Required[str]
    api_used: Required[str]
    attempts: float | None
    started_at: float | None
    duration_s: float | None
    error: TaskError | None
    item: JsonValue
    language: JsonValue
    solution: JsonValue
    lossy: bool
    output: str


class Summary(TypedDict):
    """The summary of a sample's file."""

    max_seq: int
    identities: str
    done: int
    errors: Mapping[str, int]
    verdicts: Mapping[str, int]
    runs: NotRequired[Mapping[str, int]]
    contexts: NotRequired[Mapping[str, int]]
    unexpected: NotRequired[int]


class Header(TypedDict, total=False):
    """The content of a header record; {} where there is none."""

    id: str
    name: str
    totals: dict[str, int]
    context: str
    identities: str


class AttemptRecord(TypedDict):
    """The content of an attempt record."""

    key: str
    occurrence: int
    attempt: int
    reason: NotRequired[str]
    hint: JsonObject
    previous: JsonValue
    exceptions: NotRequired[int]


#: An entry's place in a match record: index or None, key, occurrence. (Read from JSON it is a list of these.)
MatchedPlace = tuple[int | None, str, int]


class MatchRecord(TypedDict):
    """The content of a match record. `groups` is read from the log when it is looked up: see replay.Match."""

    seq: NotRequired[int]
    id: str
    size: int
    mtime_ns: int
    crc: int
    identities: str
    complete: bool
    totals: dict[str, int]
    verdicts: dict[str, int]
    unexpected: NotRequired[int]
    completed: NotRequired[dict[str, int]]
    groups: NotRequired[dict[str, list[MatchedPlace]]]


class ArchivedRecord(TypedDict):
    """The content of an archived record."""

    archive: str
    name: str
    id: str


class RunRecord(TypedDict, total=False):
    """The content of a run record. Values that are not checked are any JSON."""

    run_id: Required[str]
    seq: int
    settings: JsonObject | None
    given_settings: JsonObject | None
    settings_version: JsonValue
    started_at: JsonValue
    host: JsonValue
    pid: JsonValue
    nbrun: JsonValue
    ids: JsonValue
    samples: JsonValue
    tasks: JsonValue
    samples_digest: JsonValue


class UncleanRecord(TypedDict):
    """The content of an unclean record."""

    run_id: str
    seq: int
    running: list[str]


class Record(NamedTuple):
    """One line of a log. `offset` and `length` say where its body is in the file."""

    kind: bytes
    body: bytes
    whose: bytes | None
    offset: int


def segment_name(number: int) -> str:
    """The file name of a segment."""
    return f"journal-{number:08d}.log"


def frame(kind: bytes, body: bytes, whose: bytes | None = None) -> bytes:
    """A record's line.

    Example:
        >>> frame(b"r", b'{"run_id":"x"}')
        b'59cc2568\\tr\\t{"run_id":"x"}\\n'
    """
    text = kind + b"\t" + body + (b"" if whose is None else b"\t" + whose)
    return b"%08x\t%b\n" % (crc32(text), text)


def unframe(line: bytes, offset: int = 0) -> Record | None:
    """The record of a line (with or without its line feed), or None where the checksum says no."""
    line = line.rstrip(b"\n")
    if len(line) < CRC_HEX + 4 or line[CRC_HEX : CRC_HEX + 1] != b"\t":
        return None
    try:
        wanted = int(line[:CRC_HEX], 16)
    except ValueError:
        return None
    if crc32(memoryview(line)[CRC_HEX + 1 :]) != wanted:
        line = line.removesuffix(b"\r")  # git has changed the line ends; no record holds a raw carriage return
        if crc32(memoryview(line)[CRC_HEX + 1 :]) != wanted:
            return None
    parts = line.split(b"\t")
    if len(parts) not in (3, 4):
        return None
    return Record(parts[1], parts[2], parts[3] if len(parts) == 4 else None, offset + CRC_HEX + len(parts[1]) + 2)


def progress_object(totals: dict[str, int], completed: dict[str, int], complete: bool) -> bytes:
    """Return the progress object as the runbooks' grep expects it: with spaces, on one line."""
    parts = []
    for group, total in totals.items():
        name = without_surrogates(group)
        done_key, total_key = orjson.dumps(f"completed_{name}s"), orjson.dumps(f"total_{name}s")
        parts.append(b"%b: %d, %b: %d" % (done_key, completed.get(group, 0), total_key, total))
    parts.append(b'"is_complete": true' if complete else b'"is_complete": false')
    return b"{" + b", ".join(parts) + b"}"


# ---- a sample id -> the name of its file

SUFFIX = ".json"
#: Encrypted disks allow 143 bytes, and a file has longer names than its own meanwhile: see `derived`.
MAX_BYTES, MAX_DERIVED_BYTES = 128, 139
#: What no file system has more of in a name.
MOST_BYTES = 255
_PLAIN = re.compile(r"[a-z0-9_][a-z0-9._-]*", re.ASCII)
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.ASCII)
_DIGEST_CHARS = 13  # 65 bits


def is_sample_file_name(name: object) -> TypeGuard[str]:
    """Return whether a name that was read from disk can be that of a sample's file: a name and no path.

    Example:
        >>> [is_sample_file_name(n) for n in ("p1.json", "../p1.json", "/p1.json", "a\\0.json", "lock", None)]
        [True, False, False, False, False, False]
    """
    return (
        isinstance(name, str)
        and name.endswith(SUFFIX)
        and "/" not in name
        and "\0" not in name
        and len(name.encode("utf-8", "surrogatepass")) <= MOST_BYTES
    )


def name_of(sample_id: str) -> str:
    """Return the file name for an id.

    Example:
        >>> name_of("p1"), name_of("Codeforces/1/A"), name_of("中文 题")
        ('p1.json', 'Codeforces_1_A~226htjl5nv45e.json', '中文_题~w46glw5z35hyc.json')
    """
    if _is_plain(sample_id):
        return sample_id + SUFFIX
    mark = _mark(sample_id.encode("utf-8", "surrogatepass"))
    return _readable(sample_id, MAX_BYTES - len(mark) - len(SUFFIX)) + mark + SUFFIX


def _is_plain(sample_id: str) -> bool:
    """Return whether any file system takes an id as it is, and as different from every other id."""
    return (
        _PLAIN.fullmatch(sample_id) is not None
        and not _RESERVED.fullmatch(sample_id)
        and sample_id[-1] != "."
        and len(sample_id) + len(SUFFIX) <= MAX_BYTES
    )


def _readable(sample_id: str, room: int) -> str:
    """Return what of an id can be in a name, in at most `room` bytes."""
    text = "".join(c if c.isalnum() or c in "-_." else "_" for c in unicodedata.normalize("NFC", sample_id))
    text = text.lstrip(".-").encode("utf-8", "ignore")[: room - 1].decode("utf-8", "ignore")
    is_usable = text and not _RESERVED.fullmatch(text.lower())  # Windows reserves con.txt as well as con
    return text if is_usable else "_" + text


def temporary(name: str) -> str:
    """Return the name of a file in `.nbrun/tmp/` while it is being written.

    Example:
        >>> temporary("p1.json")
        'p1.json.tmp'
    """
    return derived(name, ".tmp")


def derived(name: str, suffix: str) -> str:
    """Return a file's name with a suffix; the name may be as long as the disk allows (the older program's are)."""
    data = os.fsencode(name)
    room = MAX_DERIVED_BYTES - len(suffix)
    if len(data) <= room:
        return name + suffix
    mark = _mark(data)
    return data[: room - len(mark)].decode("utf-8", "ignore") + mark + suffix


def _mark(data: bytes) -> str:
    """Return what distinguishes a shortened or changed name from others."""
    from base64 import b32encode  # few names need it

    return "~" + b32encode(blake2b(data, digest_size=9).digest()).decode()[:_DIGEST_CHARS].lower()
