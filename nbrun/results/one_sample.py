"""The saved entries of one sample, read by themselves: for a view that opens a sample of a large directory.

Any thread; no lock; also while a run writes. The journal is read first, the file after (F7). Only the sample's own
records and its own file are parsed, so the cost is by that sample and by the bytes of the journal.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from nbrun import verdicts
from nbrun.model import TaskSummary
from nbrun.results import sample_file
from nbrun.results.archives import read_file
from nbrun.results.entries import Identity, Stored, merge
from nbrun.results.format import ENTRY, ENTRY_HEAD, FOLDER, unframe
from nbrun.results.names import name_of
from nbrun.results.replay import list_segments, whose
from nbrun.results.sample_file import FileInfo, Unreadable, parse_entry, peek
from nbrun.results.values import dump, load
from nbrun.storage import files
from nbrun.storage.book import IN_FILE
from nbrun.storage.directory import list_samples
from nbrun.storage.runlog import MatchLog
from nbrun.texts import digits_of

#: As often a segment or the file may vanish while it is looked for.
TRIES = 20
#: A preview of an item or a result is at most this long.
PREVIEW_CHARS = 100
_JOURNAL = -1  # Stored.where of an entry whose bytes are at hand


def read_rows(path: Path, sample_id: str) -> list[TaskSummary]:
    """The tasks of a sample that have a saved result or error, group by group in the order of their items."""
    rows = []
    for stored, body in _entries(path, sample_id):
        try:
            rows.append(_row(stored, load(body)))
        except (ValueError, AttributeError):  # damaged
            continue
    groups = {row.group: n for n, row in reversed(list(enumerate(rows)))}
    return sorted(rows, key=lambda row: (row.group.startswith("incorrect_"), groups[row.group], row.index))


def read_entry(path: Path, sample_id: str, group: str, index: int) -> dict[str, Any] | None:
    """A task's whole entry as it is saved; None where it has none yet."""
    for stored, body in _entries(path, sample_id):
        if stored.group == group and stored.item_index == index:
            entry = load(body)
            return entry if isinstance(entry, dict) else None
    return None


def _row(stored: Stored, entry: Mapping[str, Any]) -> TaskSummary:
    result = entry.get("result")
    error = entry.get("error")
    verdict = verdicts.of(result)
    if stored.status != "done":
        verdict = str(error.get("type", "error")) if isinstance(error, Mapping) else "error"
    time_s = entry.get("duration_s")
    if time_s is None:
        time_s = verdicts.tests_summary(result)[2]
    language = entry.get("language")
    return TaskSummary(
        stored.group, stored.item_index or 0, stored.status, verdict,
        float(time_s) if isinstance(time_s, (int, float)) else None, int(entry.get("attempts") or 1),
        None if language is None else str(language), item=_preview(_item_of(entry)), result=_preview(_own_of(result)),
        is_unexpected=stored.status == "done"
        and verdicts.is_unexpected(verdicts.expected(stored.group), verdicts.counted(result)),
    )  # fmt: skip


def _item_of(entry: Mapping[str, Any]) -> Any:
    return entry.get("solution", entry.get("item"))


def _own_of(result: Any) -> Any:
    """What a result says beside its verdict; of one with tests how many were passed."""
    if not isinstance(result, dict):
        return result
    n_tests, n_passed, _ = verdicts.tests_summary(result)
    if n_tests is not None:
        return f"{n_passed} of {n_tests} tests passed"
    own = {k: v for k, v in result.items() if k not in ("verdict", "accepted", "api_used")}
    return own["value"] if own.keys() == {"value"} else own or None


def _preview(value: Any) -> str:
    """What a value begins with, on one line."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(_shortened(value), ensure_ascii=False)
    line = " ".join(text[: 4 * PREVIEW_CHARS].split())
    return line if len(line) <= PREVIEW_CHARS else f"{line[:PREVIEW_CHARS]}…"


def _shortened(value: Any, depth: int = 0) -> Any:
    """The beginning of a value: a preview of a large one must not cost its encoding."""
    if isinstance(value, str):
        return value[:PREVIEW_CHARS]
    if type(value) is int and value.bit_length() > 64:
        return digits_of(value)[:PREVIEW_CHARS]
    if isinstance(value, dict) and depth < 3:
        return {k: _shortened(v, depth + 1) for k, v in islice(value.items(), 12)}
    if isinstance(value, list) and depth < 3:
        return [_shortened(v, depth + 1) for v in value[:12]]
    return "…" if isinstance(value, (dict, list)) else value


def _entries(path: Path, sample_id: str) -> Iterator[tuple[Stored, bytes]]:
    """Those that belong to an item of the dataset, with their bytes. What is damaged is left out: check tells of it."""
    journal = _in_journal(path / FOLDER, sample_id)
    found = _file_of(path, sample_id)
    if found is None:
        yield from ((stored, body) for stored, body in journal.values() if stored.item_index is not None)
        return
    file, info = found
    with file:  # held open: it may be replaced meanwhile
        content = sample_file.read_any(file)
        match = None
        if isinstance(content, bytes):
            matches = MatchLog(path / FOLDER / "matched.log").matches(ids=[info.sample_id])
            match = matches.get(info.sample_id)
        in_journal = {identity: stored for identity, (stored, _) in journal.items()}
        try:
            merged = merge(content, match, in_journal)
        except Unreadable:
            merged = list(in_journal.values())
        for stored in merged:
            if stored.item_index is None:
                continue
            if stored.where == IN_FILE and isinstance(content, sample_file.OwnFile):
                yield stored, content.body(stored)
            else:
                yield stored, journal[stored.identity][1] if stored.body is None else stored.body


def _in_journal(inner: Path, sample_id: str) -> dict[Identity, tuple[Stored, bytes]]:
    mark = b"\t" + dump([sample_id, ""])[:-3]  # as an entry's line ends: the sample and then any group
    for _ in range(TRIES):
        out: dict[Identity, tuple[Stored, bytes]] = {}
        try:
            for _, segment in list_segments(inner):
                with files.open_reading(segment) as f:
                    for line in f:
                        if mark in line and line.endswith(b"\n"):
                            _take(out, line, sample_id)
        except files.NotPlainError:  # check names it
            pass
        except FileNotFoundError:  # its entries stand in files since
            continue
        return out
    return {}


def _take(out: dict[Identity, tuple[Stored, bytes]], line: bytes, sample_id: str) -> None:
    record = unframe(line)
    if record is None or record.kind != ENTRY or record.whose is None:
        return
    head, of = ENTRY_HEAD.match(record.body), whose(record)
    if head is None or of is None or of[0] != sample_id or parse_entry(record.body) is None:
        return
    group = of[1]
    index, key, occurrence, seq, status = head.groups()
    stored = Stored(
        group, None if index == b"null" else int(index), bytes.fromhex(key.decode()), int(occurrence), int(seq),
        status.decode(), _JOURNAL, 0, 0,
    )  # fmt: skip
    before = out.get(stored.identity)
    if before is None or stored.seq >= before[0].seq:
        out[stored.identity] = (stored, record.body)


def _file_of(path: Path, sample_id: str) -> tuple[BinaryIO, FileInfo] | None:
    """A sample's file, open: found by its name, else (files of the older program) by looking at all of them."""
    for _ in range(TRIES):
        info: FileInfo | None = None
        try:
            info = peek(path / name_of(sample_id))
        except (OSError, Unreadable):
            pass
        if info is None or info.sample_id != sample_id:
            info = list_samples(path).by_id.get(sample_id)
        if info is None:
            return None
        try:
            if info.place is not None:
                return _unpacked(read_file(path, info)), info
            return files.open_reading(path / info.name), info
        except FileNotFoundError:
            continue
    return None


def _unpacked(data: bytes) -> BinaryIO:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.write(data)
    file.seek(0)
    return file
