"""Opens samples to resume them: what is saved of each, which of its tasks are missing, and which run again.

Threads: the feeder only, one sample after another; `note_problem` by the compactor's threads too.
"""

from __future__ import annotations

import errno
import os
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product, starmap
from pathlib import Path
from typing import Any, NamedTuple, cast
from zlib import crc32

from nbrun import verdicts
from nbrun.canonical import canonical, key_text
from nbrun.errors import UnstorableError
from nbrun.results import listing, sample_file
from nbrun.results.format import Entry, JsonValue, MatchedPlace, MatchRecord, temporary
from nbrun.results.sample_file import (
    NBRUN,
    NOWHERE,
    FileInfo,
    Identity,
    OldFile,
    OldMatch,
    OwnFile,
    Stored,
    Unreadable,
    decode_entry,
    load_entry,
    maker_of,
    match_old,
    places_in,
)
from nbrun.results.values import decode, encode, load
from nbrun.samples import Group, Sample
from nbrun.storage import files
from nbrun.storage.compactor import write_sample
from nbrun.storage.directory import Directory, choose
from nbrun.storage.entry import ENTRY
from nbrun.storage.journal import Journal
from nbrun.storage.recovery import Recovery, attempt_body, decode_hint
from nbrun.storage.sample_state import (
    DONE,
    NOTHING,
    Columns,
    SampleState,
    crc_of,
    match_own,
    match_rows,
    positions_by_identity,
    take_indexed,
)
from nbrun.texts import without_surrogates
from nbrun.verdicts import Tally

#: Returns whether results of this run_id and context count; others run again.
IsCurrent = Callable[[str, str], bool]


@dataclass(frozen=True)
class RejudgeFilter:
    """Decides which saved results run again.

    Attributes:
        ask: called with an entry and its position; returns whether it runs again.
        may: called with a verdict and a run_id; returns whether there is anything to ask about such results.
    """

    ask: Callable[[Entry, int], bool]
    may: Callable[[str | None, str], bool] = lambda verdict, run_id: True

    def may_any(self, plan: ResumePlan) -> bool:
        """Return whether there may be something to ask about a finished sample."""
        return any(starmap(self.may, product((*plan.verdicts, None), plan.runs or ("",))))


@dataclass(frozen=True)
class RerunRules:
    """Which saved results run again, by any of these rules.

    Attributes:
        redo: identities, each with the run_id of the result to be replaced (None: any result).
        is_current: results for which it returns False run again.
        rejudge: asks about each saved result.
    """

    redo: Mapping[Identity, str | None] = field(default_factory=dict)
    is_current: IsCurrent | None = None
    rejudge: RejudgeFilter | None = None

    @property
    def are_empty(self) -> bool:
        """True where no saved result runs again."""
        return not self.redo and self.is_current is None and self.rejudge is None

    def replaces(self, identity: Identity, run_id: str) -> bool:
        """Return whether `redo` names this result."""
        return identity in self.redo and self.redo[identity] in (None, run_id)

    def keep_finished(self, plan: ResumePlan) -> bool:
        """Return whether nothing of a finished sample runs again, as far as its counts say so."""
        if self.redo or (self.rejudge is not None and self.rejudge.may_any(plan)):
            return False
        made = product(plan.runs or ("",), plan.contexts or ("",))
        return self.is_current is None or all(starmap(self.is_current, made))


@dataclass(slots=True)
class ResumePlan:
    """What earlier runs left of a sample, and what is to be run.

    Attributes:
        state: the sample's state with the tasks to run; None where nothing is missing.
        changed: how many entries no longer match an item.
        retyped: items that hardly differ from the item of such an entry.
    """

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
    changed: int = 0
    retyped: Sequence[Retyped] = ()


def plan_of(state: SampleState, chosen: Collection[int] = ()) -> ResumePlan:
    """Return the plan of an open sample, without the results at the positions `chosen`, which will be replaced."""
    c = state.columns
    if c is None:
        return ResumePlan(None, state.total, changed=len(state.orphans))
    by_maker = state.done_by_maker(c, chosen)
    counts = state.counts_of(by_maker)
    accepted, rejected = verdicts.judged(counts.verdicts)
    tally = state.tally_of(by_maker) if state.is_judged and counts.verdicts else Tally()
    return ResumePlan(
        None,
        state.total,
        counts.done.total(),
        counts.verdicts,
        accepted,
        rejected + counts.verdicts["JudgeError"],
        tally.unexpected,
        tally,
        counts.runs,
        counts.contexts,
        len(state.orphans),
    )


class ResumePlanner:
    """Matches samples with what a directory holds of them.

    Args:
        recovery: what an unclean end left.
        run_id: of the run that makes new entries.
        quarantined: fingerprint -> seq of the last unclean end at which the task was in flight; see InFlightTasks.
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
        self._retyped: list[Retyped] = []  # of the sample that is being opened

    def plan(self, sample: Sample, info: FileInfo | None, rules: RerunRules) -> ResumePlan:
        """Open a sample. Raise OSError.

        Args:
            info: its file, as it was listed; None where it has none.
        """
        info = self._as_it_is(info)
        if info is not None:
            plan = self._plan_without_opening(sample, info, rules)
            if plan is not None:
                return plan
            if info.place is not None:
                info = self._take_out(info)
        self._retyped = []
        state = self._open(sample, info)
        self._take_attempts(state)
        state.missing = chosen = self._choose(state, rules)
        state.quarantined = self._quarantined_among(state, chosen)
        plan = plan_of(state, chosen)
        plan.retyped = self._retyped
        if chosen:
            if state.is_foreign and state.columns is not None:
                self._write_now(state)
            plan.state = state
        return plan

    def _plan_without_opening(self, sample: Sample, info: FileInfo, rules: RerunRules) -> ResumePlan | None:
        """Return the plan of a sample of which no task runs; None where it must be opened."""
        if self._is_finished(sample, info):
            plan = self._finished(sample, info)
            if rules.keep_finished(plan):
                self.attempts.pop(sample.id, None)  # of tasks that have a result
                return plan
        return None if info.place is None else self._matched_in_archive(sample, info, rules)

    def _open(self, sample: Sample, info: FileInfo | None) -> SampleState:
        """Return the state of a sample with the entries of its file."""
        state = SampleState(sample, info.name if info else "", self._run_id, self._keep_items)
        if info is not None:
            self._read_file(state, info)
            return state
        state.name = self.directory.new_name(state.sample_id)
        return state

    def _as_it_is(self, info: FileInfo | None) -> FileInfo | None:
        """Look again at a file that may have changed since it was listed. Return None where it can't be used."""
        if info is None or info.place is not None:
            return info
        path = f"{self.path}{os.sep}{info.name}"
        stat = os.stat(path)
        if (stat.st_size, stat.st_mtime_ns) == (info.size, info.mtime_ns):
            return info
        try:
            now = sample_file.peek(Path(path))
            if now.sample_id == info.sample_id:
                return now
            what = f"was replaced by the file of {now.sample_id!r} while the run went on"
        except Unreadable as e:
            what = str(e)
        self.directory.note(path, what, info.sample_id)
        left = sample_file.peek_damaged(Path(path))
        if left is not None and left.sample_id == info.sample_id:
            return left
        self.directory.quarantine(Path(path))
        return None

    def _quarantined_among(self, state: SampleState, positions: Iterable[int]) -> list[int]:
        if not self._quarantined:
            return []
        c = state.columns
        fingerprints = {p: state.fingerprints([p]) for p in positions}
        ended = {} if c is None else {p: c.seq[p] for p in fingerprints}
        return choose(self._quarantined, fingerprints, ended)

    def _is_finished(self, sample: Sample, info: FileInfo) -> bool:
        """Return whether a file holds a result for every item of the sample, as its last lines or its match say."""
        identities = sample.identities.hex()
        if info.source == NBRUN:
            said = info.summary  # it carries a checksum, unlike the progress object
            return said is not None and (said["done"], said["identities"]) == (sample.total, identities)
        match = self.directory.matches.get(sample.id)
        if match is None or not info.is_of(match):
            return False
        return match["complete"] and match["identities"] == identities

    def _matched_in_archive(self, sample: Sample, info: FileInfo, rules: RerunRules) -> ResumePlan | None:
        """Match an archived file. Return None where it must be taken out of its archive."""
        if sample.id in self.attempts or (info.source == NBRUN and not self._is_finished(sample, info)):
            return None
        state = SampleState(sample, info.name, self._run_id, self._keep_items)
        try:
            self._read_archived(state, info)
        except Unreadable:
            return None  # that is reported when it is taken out
        if state.columns is None or self._choose(state, rules):
            return None
        return plan_of(state)

    def _read_archived(self, state: SampleState, info: FileInfo) -> None:
        """Take over the entries of an archived file. Raise Unreadable."""
        with listing.open_file(self.path, info) as f:
            content = sample_file.read_any(f)
            if not isinstance(content, OwnFile):
                self._take_rows(state, info, content)
                return
            for position, stored, entry in match_own(state.sample, content, with_bodies=True):
                if position is not None:
                    state.place_entry(position, stored, entry)

    def _take_out(self, info: FileInfo) -> FileInfo | None:
        try:
            return self.directory.take_out(info)
        except Unreadable as e:
            self.directory.note(self.path / info.name, f"{e}; what it held counts as missing", info.sample_id)
            return None

    def _finished(self, sample: Sample, info: FileInfo) -> ResumePlan:
        """Return the plan of a finished sample from its counts alone: its entries aren't read."""
        summary = info.summary or self.directory.matches[sample.id]
        counts = summary["verdicts"]
        accepted, rejected = verdicts.judged(counts)
        sizes = _sizes(sample)
        unexpected = summary.get("unexpected")
        return ResumePlan(
            state=None,
            total=sample.total,
            done=sample.total,
            verdicts=counts,
            accepted=accepted,
            rejected=rejected + counts.get("JudgeError", 0),
            unexpected=_least_unexpected(sizes, accepted, rejected) if unexpected is None else unexpected,
            tally=_tally_of_finished(sizes, accepted, rejected, unexpected),
            runs=info.summary.get("runs", {}) if info.summary else {},
            contexts=info.summary.get("contexts", {}) if info.summary else {},
        )

    def _read_file(self, state: SampleState, info: FileInfo) -> None:
        """Take over the entries of the sample's file; an unreadable file is quarantined."""
        path = self.path / info.name
        if info.source == NBRUN:
            self._read_own(state, path, info)
            state.max_seq = max(state.max_seq, info.max_seq)
            state.file_seq = max(state.file_seq, info.max_seq)
            return
        try:
            self._read_old(state, path, info)
        except Unreadable as e:
            self.directory.note(path, str(e), state.sample_id)
            self.directory.quarantine(self.path / info.name)
            state.name = self.directory.name_for(state.sample_id)

    def _read_own(self, state: SampleState, path: Path, info: FileInfo) -> None:
        """Take over the entries of a file in nbrun's format. A damaged file is kept in `.nbrun/damaged/`."""
        with files.open_reading(path) as f:
            state.file_id = files.identity_of(os.fstat(f.fileno()))
            crc = crc_of(f)
            known = {} if info.is_damaged else take_indexed(state, self.path, info.name, f, crc)
            matched = {group: count for group, (count, _) in known.items()}
            own = sample_file.read_any(f, {group: end for group, (_, end) in known.items()})
            if not isinstance(own, OwnFile):
                raise Unreadable("was replaced by another file while it was opened")
            is_changed = self._take_entries(state, own, matched)
        is_damaged = self.directory.keep_damaged(info, own.damaged)
        if is_changed or is_damaged:
            self._write_now(state)
        elif not own.is_foreign:
            state.file_crc = crc

    def _take_entries(self, state: SampleState, own: OwnFile, matched: Mapping[str, int]) -> bool:
        """Take over the entries of an open file. Return whether it must be written again: an entry has changed.

        Those of a file that another tool has re-serialised are kept in memory until it is replaced.
        """
        state.is_foreign, state.extra = own.is_foreign, own.extra
        taken: set[int] = set()
        orphans: list[tuple[Stored, object]] = []
        is_changed = False
        for position, stored, entry in match_own(state.sample, own, matched):
            is_changed |= is_moved(state.sample, position, stored)
            if position is None:
                orphans.append((stored, stored_item(entry)))
            else:
                taken.add(position)
                state.place_entry(position, stored, entry)
        with_items = [(stored, item) for stored, item in orphans if item is not NO_ITEM]
        again = match_by_key(state.sample, taken, with_items, matched)
        self._place_under_new_keys(state, own, again)
        moved = set(again.values())
        state.orphans += [stored for stored, _ in orphans if stored not in moved]
        if not (taken or again or matched):
            self._retyped = retyped(state.sample, with_items)
        return is_changed or bool(again)

    def _place_under_new_keys(self, state: SampleState, own: OwnFile, entries: Mapping[int, Stored]) -> None:
        """Record entries, by position, that were saved under another key than their items have now."""
        for position, stored in entries.items():
            body = stored.body or own.body(stored)
            group, rank = state.sample.locate(position)
            rest = body.split(b'"seq":%d,' % stored.seq, 1)[1]
            key = group.key(rank).hex().encode()
            new = ENTRY % (group.runnable[rank], key, group.occurrence(rank), stored.seq, rest)
            state.place(position, stored._replace(where=NOWHERE, body=new), maker_of(load_entry(body)))

    def _read_old(self, state: SampleState, path: Path, info: FileInfo) -> None:
        """Take over the entries of a file of the older program. Raise Unreadable."""
        state.file_id = files.identity_at(path)
        with files.open_reading(path) as f:
            self._take_rows(state, info, sample_file.read_whole(f))

    def _take_rows(self, state: SampleState, info: FileInfo, data: bytes) -> None:
        """Take over the entries of a file of the older program, and save which item each belongs to."""
        old = sample_file.parse_old(data)
        matches = match_old(state.sample, old)
        for position, stored, entry in match_rows(old, matches):
            if position is None:
                state.orphans.append(stored)
            else:
                state.place_entry(position, stored, entry)
        state.api_used, state.worker_id, state.extra = old.api_used or "", old.worker_id or "", old.extra
        if not self._are_saved(state, old, data, matches):
            self._save_matches(state, info, data, matches)

    def _are_saved(self, state: SampleState, old: OldFile, data: bytes, matches: list[OldMatch]) -> bool:
        """Return whether the sample's match record says what `matches` does."""
        known = self.directory.matches.get(state.sample_id)
        if known is None or known["identities"] != state.sample.identities.hex():
            return False
        return places_in(old, known, data) == [m._replace(position=None) for m in matches]

    def _save_matches(self, state: SampleState, info: FileInfo, data: bytes, matches: list[OldMatch]) -> None:
        """Save which old entry belongs to which item. Readers use that record; the old file stays as it is."""
        groups: dict[str, list[MatchedPlace]] = {}
        for m in matches:
            groups.setdefault(m.group, []).append((m.item_index, key_text(m.key), m.occurrence))
        plan = plan_of(state)
        record: MatchRecord = {
            "seq": self._seq_floor,
            "id": state.sample_id,
            "size": len(data),
            "mtime_ns": info.mtime_ns,
            "crc": crc32(data),
            "identities": state.sample.identities.hex(),
            "complete": plan.done == plan.total,
            "totals": state.totals,
            "verdicts": dict(plan.verdicts),
            "unexpected": plan.unexpected,
            "completed": {group: sum(place[0] is not None for place in places) for group, places in groups.items()},
            "groups": groups,  # the last key, so that readers can leave it out
        }
        self.directory.matches[state.sample_id] = self.directory.match_log.add(record)

    def _take_attempts(self, state: SampleState) -> None:
        """Take over the attempts of tasks without a result, and save them in a segment of this run."""
        waiting = self.attempts.pop(state.sample_id, None)
        if not waiting:
            return
        c = state.columns
        for identity, position in positions_by_identity(state.sample).items():
            attempt = waiting.get(identity)
            if attempt is None or (c is not None and c.status[position] == DONE):
                continue
            body = attempt_body(identity.key, identity.occurrence, attempt)
            previous = decode(cast(JsonValue, attempt.previous))
            state.attempts[position] = attempt._replace(hint=decode_hint(attempt.hint), previous=previous)
            self.journal.put_attempt(state, position, body)

    def _choose(self, state: SampleState, rules: RerunRules) -> Sequence[int]:
        """Return the positions to run: those without a result, and those whose result runs again."""
        c = state.columns
        if c is None:
            return range(state.total)
        may_run_again = not rules.are_empty
        return [
            position
            for position, status in enumerate(c.status)
            if status != DONE or (may_run_again and self._runs_again(state, c, position, rules))
        ]

    def _runs_again(self, state: SampleState, c: Columns, position: int, rules: RerunRules) -> bool:
        verdict, run_id, context = state.makers[c.made[position]]
        if rules.redo:
            group, rank = state.sample.locate(position)
            if rules.replaces(Identity(group.name, group.key(rank), group.occurrence(rank)), run_id):
                return True
        if rules.is_current is not None and not rules.is_current(run_id, context):
            return True
        if rules.rejudge is None or not rules.rejudge.may(verdict, run_id):
            return False
        return rules.rejudge.ask(decode_entry(self._body_of(state, c, position)), position)

    def _body_of(self, state: SampleState, c: Columns, position: int) -> bytes:
        """Return an entry's bytes before the sample is worked on: from its file, or converted from an old one."""
        body = c.bodies.get(position)
        if body is not None:
            return body
        path = self.path / state.name
        with files.open_reading(path) as f:
            if files.identity_of(os.fstat(f.fileno())) != state.file_id:
                raise OSError(errno.ESTALE, "was replaced while it was opened", str(path))
            f.seek(c.offset[position])
            return f.read(c.length[position])

    def _write_now(self, state: SampleState) -> None:
        """Write the sample's file before the sample is worked on."""
        state.max_seq = max(state.max_seq, max(state.columns.seq, default=0)) if state.columns else state.max_seq
        beside = str(self.directory.inner / "tmp" / temporary(state.name))
        write_sample(state, str(self.path), beside, self.journal.segments.hold)
        files.sync_folder(self.path)
        state.is_foreign = False
        self.note_problem(state)

    def note_problem(self, state: SampleState) -> None:
        """Report a problem of a sample's file that was found while the file was written."""
        if state.problem:
            self.directory.note(self.path / state.name, state.problem, state.sample_id)
            state.problem = ""


def _least_unexpected(sizes: Mapping[bool | None, int], accepted: int, rejected: int) -> int:
    """Return the least number of unexpected verdicts, where a file holds no more than the numbers of verdicts."""
    if sizes[None]:
        return 0
    return max(0, accepted - sizes[True]) + max(0, rejected - sizes[False])


def _sizes(sample: Sample) -> dict[bool | None, int]:
    """Return how many items should be accepted (True), be rejected (False), or have no expectation (None)."""
    sizes: dict[bool | None, int] = {True: 0, False: 0, None: 0}
    for g in sample.groups:
        sizes[verdicts.expected(g.name)] += len(g.runnable)
    return sizes


def _tally_of_finished(sizes: Mapping[bool | None, int], accepted: int, rejected: int, unexpected: int | None) -> Tally:
    """Return the tally of a finished sample from its sums; an empty one where they don't determine it.

    With every item judged, accepted + unexpected - positives is twice the number of accepted negatives.
    """
    positives, negatives = sizes[True], sizes[False]
    if sizes[None] or accepted + rejected != positives + negatives:
        return Tally()
    if unexpected is None and positives and negatives:
        return Tally()
    if unexpected is None:
        unexpected = accepted if negatives else rejected
    wrong, odd = divmod(accepted + unexpected - positives, 2)
    if odd or not 0 <= wrong <= min(accepted, negatives):
        return Tally()
    return Tally(accepted - wrong, positives - accepted + wrong, wrong, negatives - wrong)


# ---- entries whose items have another key now


def stored_item(entry: Entry) -> object:
    """Return the item that an entry holds; NO_ITEM where it was left out."""
    if "item" in entry:
        return decode(entry["item"])
    if "solution" in entry:
        of_two = {"solution": entry["solution"]}
        return {"language": entry["language"], **of_two} if "language" in entry else of_two
    return NO_ITEM


#: The item of an entry that holds none.
NO_ITEM = object()


def match_by_key(
    sample: Sample,
    taken: Container[int],
    orphans: Sequence[tuple[Stored, object]],
    matched: Mapping[str, int] = NOTHING,
) -> dict[int, Stored]:
    """Match entries that were saved under another key, by the keys that `key=` gives the items that they hold.

    So results that were saved without `key=`, or with another one, are found again when one is given.

    Args:
        taken: positions that have an entry.
        orphans: entries that match no item, and the items that they hold. Of two for one item the newest counts.
        matched: these items are left out.
    """
    if sample.key_of is None or not orphans:
        return {}
    free: defaultdict[tuple[str, bytes], deque[int]] = defaultdict(deque)
    for (name, key, _), position in positions_by_identity(sample, matched).items():
        if position not in taken:
            free[name, key].append(position)
    found: dict[int, Stored] = {}
    seen: set[Identity] = set()
    for head, item in sorted(orphans, key=lambda o: (o[0].status != "done", -o[0].seq)):
        try:
            key = sample.key_of(item)
        except Exception:  # the user's function, given an item of another time
            continue
        places = free[head.group, key]
        if places and head.identity not in seen:
            seen.add(head.identity)
            found[places.popleft()] = head
    return found


def is_moved(sample: Sample, position: int | None, stored: Stored) -> bool:
    """Return whether a file gives an entry another index than the dataset does now."""
    if position is None:
        return stored.item_index is not None
    group, rank = sample.locate(position)
    return stored.item_index != group.runnable[rank]


class Retyped(NamedTuple):
    """How items differ from the saved ones, where it is hardly meant: a type, or a field that is there or isn't.

    Attributes:
        how: such as "in the type of the field 'n'".
        example: such as "1 was saved, now it is 1.0".
        same: a field in which they don't differ; "" where there is none.
    """

    how: str
    example: str
    same: str


def retyped(sample: Sample, orphans: Sequence[tuple[Stored, object]]) -> list[Retyped]:
    """Return the items of a sample without entries that may be meant as the same as saved ones: they hardly differ.

    Args:
        orphans: see match_by_key.
    """
    out = []
    for group in sample.groups:
        saved = [(head, item) for head, item in orphans if head.group == group.name]
        for item, rank in _in_one_place(group, saved):
            try:
                now = decode(load(encode(group.items[group.runnable[rank]])[0]))
            except UnstorableError:
                continue
            if (found := _difference(item, now)) is not None:
                out.append(found)
    return out


def _in_one_place(group: Group, saved: Sequence[tuple[Stored, object]]) -> Iterator[tuple[object, int]]:
    """Yield saved items, each with the rank of the item that has its place now."""
    ranks = range(len(group.runnable))
    by_index = dict(zip(group.runnable, ranks, strict=True))
    in_order = sorted(saved, key=lambda o: (o[0].item_index or 0, o[0].seq))
    # an entry whose item left the dataset in an earlier run has no index any more
    by_order: Sequence[int | None] = ranks if len(saved) <= len(ranks) else [None] * len(saved)
    for (head, item), of_order in zip(in_order, by_order, strict=False):
        rank = of_order if head.item_index is None else by_index.get(head.item_index)
        if rank is not None:
            yield item, rank


def _difference(saved: object, now: object) -> Retyped | None:
    """Return how two items differ, where a person may mean the same by both; else None."""
    if isinstance(saved, dict) and isinstance(now, dict):
        return _difference_of_fields(saved, now)
    return Retyped("in their type", _example(saved, now), "") if _is_alike(saved, now) else None


class _FieldChanges(NamedTuple):
    """The names of fields: `changed` have another value now, `gone` and `new` are only in the saved or the new item."""

    changed: list[str]
    gone: list[str]
    new: list[str]

    @classmethod
    def between(cls, saved: Mapping[str, object], now: Mapping[str, object]) -> _FieldChanges:
        changed = [k for k in saved if k in now and canonical(saved[k]) != canonical(now[k])]
        return cls(changed, [k for k in saved if k not in now], [k for k in now if k not in saved])

    def __str__(self) -> str:
        parts = [
            _part("in the type of the field", self.changed),
            _part("by the new field", self.new),
            _part("by the field", self.gone, ", which the saved ones have"),
        ]
        return " and ".join(filter(None, parts))


def _difference_of_fields(saved: Mapping[str, object], now: Mapping[str, object]) -> Retyped | None:
    changes = _FieldChanges.between(saved, now)
    changed, gone, new = changes
    if not any(changes) or not all(_is_alike(saved[k], now[k]) for k in changed):
        return None
    same = next((k for k in now if k not in {*changed, *new, "id"}), "")
    if not same and not _may_be_one(saved, now, (*gone, *new)):
        return None
    example = _example(saved[changed[0]], now[changed[0]]) if changed else ""
    return Retyped(str(changes), example, same)


def _may_be_one(saved: Mapping[str, object], now: Mapping[str, object], extra: Iterable[str]) -> bool:
    """Return whether anything suggests that two items without an equal field are one.

    Args:
        extra: the fields that only one of them has.
    """
    either = {**saved, **now}
    return saved.get("id", NO_ITEM) == now.get("id") or all(_is_nothing(either[k]) for k in extra)


def _example(saved: object, now: object) -> str:
    return f"{saved!r:.40} was saved, now it is {now!r:.40}"


def _part(phrase: str, fields: list[str], more: str = "") -> str:
    """Return a phrase with the names of fields; "" where there are none."""
    return f"{phrase}{'s' if len(fields) > 1 else ''} {_names(fields)}{more}" if fields else ""


def _names(fields: list[str]) -> str:
    shown = [repr(without_surrogates(k)) for k in fields[:3]]
    return ", ".join(shown) + (f" and {len(fields) - 3} more" if len(fields) > 3 else "")


def _is_alike(a: Any, b: Any) -> bool:
    """Return whether a person takes two values for the same: 1 and 1.0, 1 and "1", None and NaN."""
    empty = _is_nothing(a), _is_nothing(b)
    if any(empty):
        return all(empty)
    if isinstance(a, (dict, list)) or isinstance(b, (dict, list)):
        return bool(a == b)
    try:
        return a == b or str(a) == str(b) or float(a) == float(b)
    except (ValueError, TypeError, OverflowError):
        return False


def _is_nothing(value: Any) -> bool:
    return value in (None, "") or bool(value != value)  # the second: NaN
