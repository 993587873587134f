"""A sample is opened: what is saved of it, which of its tasks are missing, and what of that runs again.

Threads: the feeder only, one sample after another.
"""

from __future__ import annotations

import errno
import io
import os
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

from nbrun import verdicts
from nbrun.canonical import key_text
from nbrun.results import archives, legacy, sample_file, values
from nbrun.results.entries import IN_FILE, NOWHERE
from nbrun.results.legacy import OldMatch, match_old, old_body, places_in
from nbrun.results.listing import Problem
from nbrun.results.names import temporary
from nbrun.results.sample_file import NBRUN, EntryHead, FileInfo, Identity, Unreadable
from nbrun.results.values import load
from nbrun.samples import Sample
from nbrun.storage import files
from nbrun.storage.directory import Directory
from nbrun.storage.entry import ENTRY
from nbrun.storage.in_flight import choose
from nbrun.storage.journal import Journal
from nbrun.storage.match import NO_ITEM, Retyped, match_by_key, match_own, moved, retyped, stored_item
from nbrun.storage.recovery import Recovery, attempt_body
from nbrun.storage.sample_state import DONE, ERROR, Columns, Maker, Orphan, SampleState
from nbrun.storage.sample_writer import write_sample
from nbrun.verdicts import Tally


class ResumePlanner:
    """Matches samples with what a directory holds of them.

    Args:
        recovery: what was left by an unclean end.
        run_id: what new entries will be made by.
        suspects: see running.py.
        keep_items: store each item in its entry.
    """

    def __init__(
        self,
        directory: Directory,
        journal: Journal,
        recovery: Recovery,
        run_id: str,
        quarantined: Mapping[bytes, int],
        keep_items: bool,
    ) -> None:
        self.directory, self.journal, self.path, self._run_id = directory, journal, directory.path, run_id
        self.attempts = recovery.attempts  # of samples that weren't opened yet
        self._seq_floor = recovery.next_seq - 1
        self._quarantined, self._keep_items = quarantined, keep_items

    def begin(
        self,
        sample: Sample,
        info: FileInfo | None,
        redo: Mapping[Identity, str | None] | None,
        is_current: IsCurrent | None,
        again: RejudgeFilter | None,
    ) -> ResumePlan:
        info = self._as_it_is(info)
        if again is not None and info is not None and self._is_finished(sample, info):
            again = again if again.may_any(self._finished(sample, info)) else None  # nothing to ask: nothing to read
        if (
            info is not None
            and info.place is not None
            and (again is None or none_again(self.path, sample, info, again))
        ):
            again = None  # asked already: only what runs again is taken out of its archive
        if info is not None and not redo and again is None and self._is_finished(sample, info):
            found = self._finished(sample, info)
            if is_current is None or all(
                is_current(r, c) for r in found.runs or ("",) for c in found.contexts or ("",)
            ):
                self.attempts.pop(sample.id, None)  # of tasks that a file has done
                return found
        if info is not None and info.place is not None:
            settled = self._settled_in_archive(sample, info, redo or {}, is_current, again)
            if settled is not None:
                return settled
            info = self._take_out(info)
        state = SampleState(sample, info.name if info else "", self._run_id, self._keep_items)
        if info is None:
            damaged = self.directory.listing.damaged.get(state.sample_id)
            if damaged is not None:
                self.directory.quarantine(damaged)
                del self.directory.listing.damaged[state.sample_id]
            state.name = self.directory.name_for(state.sample_id)
        else:
            self._begin_with_file(state, info)
        self._take_attempts(state)
        if state.columns is None:
            state.missing = range(state.total)
            state.quarantined = self._quarantined_among(state, state.missing)
            found = ResumePlan(state if state.total else None, state.total, retyped=state.retyped)
            found.changed = len(state.orphans)
            return found
        chosen = self._choose(state, state.columns, redo or {}, is_current, again)
        state.missing = chosen
        state.quarantined = self._quarantined_among(state, chosen)
        found = plan_of(state, state.columns, set(chosen))
        found.retyped = state.retyped
        if chosen:
            if state.is_foreign:
                self._file_now(state)
            found.state = state
        return found

    def _as_it_is(self, info: FileInfo | None) -> FileInfo | None:
        """What a file says now, where it is another one than was listed; None where that holds nothing to build on."""
        if info is None or info.place is not None:
            return info
        path = os.path.join(self.path, info.name)
        stat = os.stat(path)
        if (stat.st_size, stat.st_mtime_ns) == (info.size, info.mtime_ns):
            return info
        try:
            now: FileInfo | None = sample_file.peek(Path(path))
            if now is not None and now.sample_id != info.sample_id:
                raise Unreadable(f"was replaced by the file of {now.sample_id!r} while the run went on")
        except Unreadable as e:
            self.directory.listing.problems.append(Problem(path, str(e), info.sample_id))
            now = sample_file.peek_damaged(Path(path))
            if now is None or now.sample_id != info.sample_id:
                self.directory.quarantine(info.name)
                return None
        return now

    def _quarantined_among(self, state: SampleState, positions: Iterable[int]) -> list[int]:
        if not self._quarantined:
            return []
        seqs = state.columns.seq if state.columns is not None else None
        fingerprints = {p: state.fingerprints([p]) for p in positions}
        return choose(self._quarantined, fingerprints, {} if seqs is None else {p: seqs[p] for p in fingerprints})

    def _is_finished(self, sample: Sample, info: FileInfo) -> bool:
        identities = sample.identities.hex()
        if info.source == NBRUN:
            summary = info.summary or {}  # carries a checksum, which what the file says last does not
            return summary.get("done") == sample.total and summary["identities"] == identities
        match = self.directory.matches.get(sample.id)
        return bool(
            match
            and match["complete"]
            and match["identities"] == identities
            and match["size"] == info.size
            and match["mtime_ns"] == info.mtime_ns
        )

    def _settled_in_archive(
        self,
        sample: Sample,
        info: FileInfo,
        redo: Mapping[Identity, str | None],
        is_current: IsCurrent | None,
        again: RejudgeFilter | None,
    ) -> ResumePlan | None:
        """An old file that is matched for the first time stays archived where nothing of it runs."""
        if info.source == NBRUN or sample.id in self.attempts:
            return None
        state = SampleState(sample, info.name, self._run_id, self._keep_items)
        try:
            self._take_old(state, self.path / info.name, info)
        except Unreadable:
            return None  # it is told where it is taken out
        if state.columns is None or self._choose(state, state.columns, redo, is_current, again):
            return None
        return plan_of(state, state.columns)

    def _take_out(self, info: FileInfo) -> FileInfo | None:
        try:
            return self.directory.take_out(info)
        except Unreadable as e:
            what = f"{e}; what it held counts as missing"
            self.directory.listing.problems.append(Problem(str(self.path / info.name), what, info.sample_id))
            return None

    def _finished(self, sample: Sample, info: FileInfo) -> ResumePlan:
        summary = info.summary or self.directory.matches[sample.id]
        counts = summary["verdicts"]
        accepted = sum(n for verdict, n in counts.items() if verdicts.accepts(verdict))
        rejected = sum(n for verdict, n in counts.items() if verdicts.rejects(verdict))
        unexpected = summary.get("unexpected")
        return ResumePlan(
            None,
            sample.total,
            sample.total,
            counts,
            accepted,
            rejected + counts.get("JudgeError", 0),
            _least_unexpected(sample, accepted, rejected) if unexpected is None else unexpected,
            _tally_of_finished(sample, accepted, rejected, unexpected),
            summary.get("runs", {}),
            summary.get("contexts", {}),
        )

    def _begin_with_file(self, state: SampleState, info: FileInfo) -> None:
        path = self.path / info.name
        if info.source == NBRUN:
            self._take_own(state, path, info)
            state.max_seq = max(state.max_seq, info.max_seq)
            state.file_seq = max(state.file_seq, info.max_seq)
            return
        try:
            self._take_old(state, path, info)
        except Unreadable as e:
            self.directory.listing.problems.append(Problem(str(path), str(e), state.sample_id))
            self.directory.quarantine(info.name)
            state.name = self.directory.name_for(state.sample_id)

    def _take_own(self, state: SampleState, path: Path, info: FileInfo) -> None:
        """Entries of a file in nbrun's format. Of a damaged one, which is kept aside, those that can be read."""
        with files.open_reading(path) as f:
            state.file_id = files.identity_of(os.fstat(f.fileno()))
            own = sample_file.read_any(f)
            if not isinstance(own, sample_file.OwnFile):
                raise Unreadable("was replaced by another file while it was opened")
            found, orphans = match_own(state.sample, own.heads)
            # entries of a file that another tool has written anew are kept in memory until it is replaced
            where = NOWHERE if own.is_foreign else IN_FILE
            whole: dict[int, EntryHead] = {}
            for position, h in found.items():
                body = own.body(h)
                entry = sample_file.parse_entry(body)
                if entry is None:
                    continue
                whole[position] = h
                made = Maker(verdicts.counted(entry["result"]), entry["run_id"], entry["context"])
                code = DONE if h.status == "done" else ERROR
                state.place(position, h.seq, code, where, h.offset, h.length, made, body if own.is_foreign else None)
                state.api_used = entry["api_used"] or state.api_used
                state.worker_id = entry["worker_id"] or state.worker_id
            held: list[tuple[EntryHead, Any]] = []
            readable: list[EntryHead] = []
            for h in orphans:
                entry = sample_file.parse_entry(own.body(h))
                if entry is not None:
                    readable.append(h)
                    if (item := stored_item(entry)) is not NO_ITEM:
                        held.append((h, item))
            again = match_by_key(state.sample, whole, held)
            for position, h in again.items():
                self._take_under_new_key(state, position, h, own.body(h))
            matched = set(again.values())
            for h in readable:
                if h not in matched:
                    held_back = own.body(h) if own.is_foreign else None
                    place = (where, h.offset, h.length, held_back)
                    state.orphans.append(Orphan(h.group, h.key, h.occurrence, h.seq, *place))
        if not whole and not again:
            state.retyped = retyped(state.sample, whole, held)
        state.is_foreign = own.is_foreign
        state.extra = own.extra
        damaged = len(found) - len(whole) + len(orphans) - len(readable) + own.damaged
        if damaged and not info.is_damaged:
            what = f"has {damaged} damaged entries; it is kept in .nbrun/damaged/"
            self.directory.listing.problems.append(Problem(str(path), what, state.sample_id))
        if damaged or info.is_damaged:
            self.directory.quarantine_copy(info.name)
            self._file_now(state)
        elif again or moved(state.sample, found, orphans):
            self._file_now(state)

    @staticmethod
    def _take_under_new_key(state: SampleState, position: int, h: EntryHead, body: bytes) -> None:
        """An entry that was saved under another key. It is kept in memory, under its new one, until it is filed."""
        entry = load(body)
        group, rank = state.sample.locate(position)
        rest = body.split(b'"seq":%d,' % h.seq, 1)[1]
        new = ENTRY % (group.runnable[rank], group.key(rank).hex().encode(), group.occurrence(rank), h.seq, rest)
        made = Maker(verdicts.counted(entry["result"]), entry["run_id"], entry["context"])
        state.place(position, h.seq, DONE if h.status == "done" else ERROR, NOWHERE, 0, 0, made, new)

    def _take_old(self, state: SampleState, path: Path, info: FileInfo) -> None:
        state.file_id = files.identity_at(path)
        data = archives.read_file(self.path, info)
        old = legacy.parse_old(data)
        matches = match_old(state.sample, old)
        for m in matches:
            row = old.groups[m.group][m.rank]
            body = old_body(row, m, old)
            if m.position is None:
                state.orphans.append(Orphan(m.group, m.key, m.occurrence, 0, NOWHERE, 0, 0, body))
                continue
            verdict = verdicts.counted(row.get("result"))
            state.place(m.position, 0, DONE, NOWHERE, 0, 0, Maker(verdict, "", ""), body)
        state.api_used, state.worker_id, state.extra = old.api_used or "", old.worker_id or "", old.extra
        known = self.directory.matches.get(state.sample_id)
        places = places_in(old, known, data)
        if places is None or [m._replace(position=None) for m in matches] != places or not self._is_same(known, state):
            self._settle_matches(state, info, data, matches)

    @staticmethod
    def _is_same(known: Mapping[str, Any] | None, state: SampleState) -> bool:
        return known is not None and known["identities"] == state.sample.identities.hex()

    def _settle_matches(self, state: SampleState, info: FileInfo, data: bytes, matches: list[OldMatch]) -> None:
        """Saves which old entry is which item (design: readers join it; the old file stays as it is)."""
        groups: dict[str, list[Any]] = {}
        for m in matches:
            groups.setdefault(m.group, []).append([m.item_index, key_text(m.key), m.occurrence])
        found = ResumePlan(None, state.total) if state.columns is None else plan_of(state, state.columns)
        record = {
            "seq": self._seq_floor,
            "id": state.sample_id,
            "size": len(data),
            "mtime_ns": info.mtime_ns,
            "crc": crc32(data),
            "identities": state.sample.identities.hex(),
            "complete": found.done == found.total,
            "totals": state.totals,
            "verdicts": found.verdicts,
            "unexpected": found.unexpected,
            "completed": {group: sum(place[0] is not None for place in places) for group, places in groups.items()},
            "groups": groups,  # last, so that readers can leave it out
        }
        self.directory.matches[state.sample_id] = self.directory.match_log.add(record)

    def _take_attempts(self, state: SampleState) -> None:
        waiting = self.attempts.pop(state.sample_id, None)
        if not waiting:
            return
        for g in state.sample.groups:
            for rank in range(len(g.runnable)):
                attempt = waiting.get(Identity(g.name, g.key(rank), g.occurrence(rank)))
                position = g.base + rank
                is_done = state.columns is not None and state.columns.status[position] == DONE
                if attempt is not None and not is_done:
                    state.attempts[position] = attempt
                    self.journal.put_attempt(state, position, attempt_body(g.key(rank), g.occurrence(rank), attempt))

    def _choose(
        self,
        state: SampleState,
        c: Columns,
        redo: Mapping[Identity, str | None],
        is_current: IsCurrent | None,
        again: RejudgeFilter | None,
    ) -> list[int]:
        """Which positions run: what has no result, and what was asked for."""
        chosen = [p for p in range(state.total) if c.status[p] != DONE]
        if redo or is_current is not None or again is not None:
            chosen += [
                p
                for p in range(state.total)
                if c.status[p] == DONE and self._runs_again(state, c, p, redo, is_current, again)
            ]
            chosen.sort()
        return chosen

    def _runs_again(
        self,
        state: SampleState,
        c: Columns,
        position: int,
        redo: Mapping[Identity, str | None],
        is_current: IsCurrent | None,
        again: RejudgeFilter | None,
    ) -> bool:
        verdict, run_id, context = state.makers[c.made[position]]
        if redo:
            group, rank = state.sample.locate(position)
            identity = Identity(group.name, group.key(rank), group.occurrence(rank))
            if identity in redo and redo[identity] in (None, run_id):
                return True
        if is_current is not None and not is_current(run_id, context):
            return True
        if again is None or not again.may(verdict, run_id):
            return False
        return again.ask(values.decode(load(self._body_of(state, c, position))), position)

    def _body_of(self, state: SampleState, c: Columns, position: int) -> bytes:
        """An entry's bytes before the sample is worked on: in its file, or converted from an old one."""
        body = c.bodies.get(position)
        if body is not None:
            return body
        path = self.path / state.name
        with files.open_reading(path) as f:
            if files.identity_of(os.fstat(f.fileno())) != state.file_id:
                raise OSError(errno.ESTALE, "was replaced while it was opened", str(path))
            f.seek(c.offset[position])
            return f.read(c.length[position])

    def _file_now(self, state: SampleState) -> None:
        state.max_seq = max(state.max_seq, max(state.columns.seq, default=0)) if state.columns else state.max_seq
        beside = str(self.directory.inner / "tmp" / temporary(state.name))
        write_sample(state, str(self.path), beside, self.journal.segments.hold)
        files.sync_folder(self.path)
        state.is_foreign = False
        self.note_problem(state)

    def note_problem(self, state: SampleState) -> None:
        """Takes over what was found wrong with a sample's file while it was written."""
        if state.problem:
            problem = Problem(str(self.path / state.name), state.problem, state.sample_id)
            self.directory.listing.problems.append(problem)
            state.problem = ""


def _least_unexpected(sample: Sample, accepted: int, rejected: int) -> int:
    """How many verdicts at least are not what their group says, where a file tells no more than their numbers."""
    sizes = _sizes(sample)
    if sizes[None]:
        return 0
    return max(0, accepted - sizes[True]) + max(0, rejected - sizes[False])


def _sizes(sample: Sample) -> dict[bool | None, int]:
    """How many items should be accepted (True), rejected (False), or have nothing expected of them (None)."""
    sizes: dict[bool | None, int] = {True: 0, False: 0, None: 0}
    for g in sample.groups:
        sizes[verdicts.expected(g.name)] += len(g.runnable)
    return sizes


def _tally_of_finished(sample: Sample, accepted: int, rejected: int, unexpected: int | None) -> verdicts.Tally:
    """Work the tally of a finished sample out from its sums; an empty one where they don't determine it.

    With every item judged, accepted + unexpected - positives is twice the number of accepted negatives.
    """
    sizes = _sizes(sample)
    positives, negatives = sizes[True], sizes[False]
    if sizes[None] or accepted + rejected != positives + negatives:
        return verdicts.Tally()
    if unexpected is None:
        unexpected = rejected if not negatives else accepted if not positives else None
    if unexpected is None:
        return verdicts.Tally()
    wrong, odd = divmod(accepted + unexpected - positives, 2)
    if odd or not 0 <= wrong <= min(accepted, negatives):
        return verdicts.Tally()
    return verdicts.Tally(accepted - wrong, positives - accepted + wrong, wrong, negatives - wrong)


# ---- the plan

#: Returns whether results of this run_id and context count; others run again.
IsCurrent = Callable[[str, str], bool]


@dataclass(frozen=True)
class RejudgeFilter:
    """Who says which saved results run again: `ask`, with an entry and its position. `may` spares the reading: told
    verdict and run_id, it says whether there is anything to ask."""

    ask: Callable[[Mapping[str, Any], int], bool]
    may: Callable[[str | None, str], bool] = lambda verdict, run_id: True

    def may_any(self, found: ResumePlan) -> bool:
        """Whether there may be something to ask about a finished sample."""
        return any(self.may(verdict, run_id) for verdict in (*found.verdicts, None) for run_id in found.runs or ("",))


@dataclass(slots=True)
class ResumePlan:
    """What earlier runs left of a sample. `state` is None where nothing is missing."""

    state: SampleState | None
    total: int
    done: int = 0
    verdicts: Mapping[str, int] = field(default_factory=dict)
    accepted: int = 0
    rejected: int = 0
    unexpected: int = 0
    tally: Tally = Tally()  # noqa: RUF009 - immutable
    runs: Mapping[str, int] = field(default_factory=dict)
    contexts: Mapping[str, int] = field(default_factory=dict)
    changed: int = 0  # entries that match no item any more
    retyped: Sequence[Retyped] = ()  # items that hardly differ from such an entry's


def plan_of(state: SampleState, c: Columns, chosen: Container[int] = ()) -> ResumePlan:
    """What the state holds, without the results that are about to be replaced."""
    found = ResumePlan(None, state.total, changed=len(state.orphans))
    made = Counter([m for p, m in enumerate(c.made) if c.status[p] == DONE and p not in chosen])
    counts, runs, contexts = Counter[str](), Counter[str](), Counter[str]()
    for number, count in made.items():
        verdict, run_id, context = state.makers[number]
        runs[run_id] += count
        contexts[context] += count
        if verdict is not None:
            counts[verdict] += count
    found.done = made.total()
    found.verdicts, found.runs, found.contexts = counts, runs, contexts
    found.accepted = sum(n for verdict, n in counts.items() if verdicts.accepts(verdict))
    found.rejected = counts["JudgeError"] + sum(n for verdict, n in counts.items() if verdicts.rejects(verdict))
    if state.is_judged and counts:
        verdict_of = [verdict for verdict, _, _ in state.makers]
        done = (p for p, status in enumerate(c.status) if status == DONE and p not in chosen)
        found.tally = state.tally_of((p, verdict_of[c.made[p]]) for p in done)
        found.unexpected = found.tally.unexpected
    return found


# ---- archived samples


def none_again(folder: Path, sample: Sample, info: FileInfo, again: RejudgeFilter) -> bool:
    """Whether no entry of an archived file shall be made again."""
    assert info.place is not None
    try:
        data = archives.read_member(folder, info.place)
        content = sample_file.read_any(io.BytesIO(data))
        if isinstance(content, sample_file.OwnFile):
            found, _ = match_own(sample, content.heads)
            bodies = {p: content.body(h) for p, h in found.items() if h.status == "done"}
        else:
            old = legacy.parse_old(content)
            bodies = {
                m.position: old_body(old.groups[m.group][m.rank], m, old)
                for m in match_old(sample, old)
                if m.position is not None
            }
    except Unreadable:
        return True  # it is told where it is taken out
    return not any(again.ask(values.decode(load(body)), p) for p, body in bodies.items())
