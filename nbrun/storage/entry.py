"""Encodes a task's outcome as a record, and the record as its entry once the journal has given it a seq.

Called for every result, `encode` by workers, so it is written for speed: one dictionary, one call of orjson; and the
items' identities are looked up for all entries of a group together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count, repeat

from nbrun import verdicts
from nbrun.errors import UnstorableError
from nbrun.model import EncodedResult
from nbrun.results import sample_file, values
from nbrun.results.format import BETWEEN, JsonValue
from nbrun.results.sample_file import EntryCounts
from nbrun.results.values import NEVER_NULL, encode_quickly
from nbrun.storage.sample_state import DONE, ERROR, SampleState
from nbrun.texts import without_surrogates
from nbrun.verdicts import KNOWN, counted

#: position, verdict, status code, the entry's bytes after its seq
EntryRecord = tuple[int, str | None, int, bytes]
#: What an entry holds of its item.
_ITEM_KEYS = ("item", "language", "solution")
#: Filled with index, key, occurrence and seq; the rest of the entry follows.
ENTRY_BEGIN = b'{"index":%d,"key":"k1:%b","occurrence":%d,"seq":%d,'
ENTRY = ENTRY_BEGIN + b"%b"
_NEXT = BETWEEN + ENTRY_BEGIN


class RemoteEncoder:
    """See model.RemoteEncoder. It runs in an executor's workers."""

    def encode(self, result: Mapping[str, object]) -> EncodedResult:
        """Return what a worker sends instead of a result."""
        data, lossy = values.encode(result)
        return EncodedResult(data, lossy, counted(result), _endpoint_of(result))

    def encode_value(self, value: object) -> bytes:
        """Return any value as JSON."""
        return values.encode(value)[0]

    def decode_value(self, data: bytes) -> JsonValue:
        """Return what was encoded by `encode_value`."""
        return values.decode(values.load(data))


def encode(
    state: SampleState,
    position: int,
    item: object,
    result: Mapping[str, object] | EncodedResult | None,
    attempts: int,
    started_at: float,
    duration_s: float,
    worker_id: str,
    error: Mapping[str, str] | None = None,
) -> EntryRecord:
    """See model.ResultSink.encode."""
    state.worker_id = worker_id
    if type(result) is dict and error is None and type(item) in NEVER_NULL and state.keep_items:
        endpoint = ""
        if "api_used" in result:
            endpoint = result["api_used"]
            if type(endpoint) is not str:
                endpoint = ""
            elif endpoint:
                state.api_used = endpoint = without_surrogates(endpoint)
        data = encode_quickly(  # one display: to assign key after key takes longer than to encode them
            {
                "status": "done",
                "item": item,
                "result": result,
                "attempts": attempts,
                "started_at": started_at,
                "duration_s": duration_s,
                "run_id": state.run_id,
                "context": state.context,
                "worker_id": worker_id,
                "api_used": endpoint,
            },
            result.values(),
        )
        if data is not None:
            verdict = result.get("verdict")
            if type(verdict) is not str or verdict not in KNOWN:
                verdict = counted(result)
            return position, verdict, DONE, data[1:]  # a copy of its own size: orjson's has slack
    return _encode_any(state, position, item, result, attempts, started_at, duration_s, worker_id, error)


def bodies(state: SampleState, records: list[EntryRecord], seq: int) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the entries of records in their order: for each stretch of one group its number and the entries.

    Args:
        seq: the last one that was taken before theirs.
    """
    at = 0
    while at < len(records):
        number = state.group_number(records[at][0])
        group = state.sample.groups[number]
        base, runnable, keys, times = group.base, group.runnable, state.hex_keys[number], group.occurrences
        stretch = records if len(state.places) == 1 else _stretch(records, at, base, base + len(runnable))
        entries = [
            ENTRY % (runnable[rank := p - base], keys[rank], times[rank] if times else 0, n, data)
            for n, (p, _, _, data) in enumerate(stretch, seq + at + 1)
        ]
        yield number, entries
        at += len(stretch)


def pieces(state: SampleState, records: list[EntryRecord], seq: int) -> list[list[bytes]]:
    """Return the entries of all tasks of a sample as its file holds them: for each group the pieces to be joined."""
    out = []
    for g, keys in zip(state.sample.groups, state.hex_keys, strict=True):
        identities = zip(g.runnable, keys, g.occurrences or repeat(0), count(seq + g.base + 1), strict=False)
        heads = [_NEXT % each for each in identities]
        if heads:
            heads[0] = heads[0][len(BETWEEN) :]
        parts = heads * 2
        parts[::2] = heads
        parts[1::2] = [data for _, _, _, data in records[g.base : g.base + len(heads)]]
        out.append(parts)
    return out


def lay_out_results(
    state: SampleState, inside: Sequence[Iterable[bytes]], judged: Sequence[str | None], max_seq: int
) -> list[bytes]:
    """Return, in pieces, the file of a sample that has a result for each of its tasks.

    Args:
        inside: for each group its entries and what is between them, in pieces.
        judged: the verdicts, in the order of the positions; None where a result has none.
    """
    parts = [sample_file.opening(state.sample_id)]
    counts = EntryCounts()
    counts.max_seq = max_seq
    counts.verdicts.update({verdict: n for verdict, n in verdicts.count(judged).items() if verdict is not None})
    for g, entries in zip(state.sample.groups, inside, strict=True):
        parts += [sample_file.group_opening(g.name), *entries, sample_file.group_end(not g.runnable)]
        done = counts.done[g.name] = len(g.runnable)
        if counts.verdicts and state.is_judged:
            of_group = verdicts.count(judged[g.base : g.base + done])
            counts.unexpected += verdicts.tally_of_group(verdicts.expected(g.name), of_group).unexpected
    if judged:
        counts.runs[state.run_id] = counts.contexts[state.sample.context] = len(judged)
    parts.append(sample_file.closing(state.footer(counts)))
    return parts


def _stretch(records: list[EntryRecord], start: int, base: int, end: int) -> list[EntryRecord]:
    """Return the records from `start` on that belong to the group that begins at `base`."""
    stop = start + 1
    while stop < len(records) and base <= records[stop][0] < end:
        stop += 1
    return records[start:stop]


def _encode_any(
    state: SampleState,
    position: int,
    item: object,
    result: Mapping[str, object] | EncodedResult | None,
    attempts: int,
    started_at: float,
    duration_s: float,
    worker_id: str,
    error: Mapping[str, str] | None,
) -> EntryRecord:
    """Do what `encode` does, for any item and any outcome."""
    head = {"status": "done" if error is None else "error", **_item_fields(state, item)}
    tail: dict[str, object] = {"attempts": attempts, "started_at": started_at, "duration_s": duration_s}
    made_by = {"run_id": state.run_id, "context": state.context, "worker_id": worker_id, "api_used": ""}
    if error is not None:
        tail["error"] = {name: text for name, text in error.items() if name != "output"}
        if "output" in error:
            made_by["output"] = error["output"]
        data, lossy = _encode_error({**head, "result": None, **tail, **made_by})
        return position, None, ERROR, _ending(data, lossy)
    assert result is not None
    if isinstance(result, EncodedResult):
        made_by["api_used"], verdict = result.api_used, result.verdict
        data, lossy = _join(head, result, {**tail, **made_by})
    else:
        made_by["api_used"] = _endpoint_of(result)
        data, lossy = values.encode({**head, "result": result, **tail, **made_by}, where="")
        verdict = counted(result)
    state.api_used = made_by["api_used"] or state.api_used
    return position, verdict, DONE, _ending(data, lossy)


def _endpoint_of(result: Mapping[str, object]) -> str:
    """Return the endpoint that a result names; "" where it names none."""
    endpoint = result.get("api_used")
    return without_surrogates(endpoint) if type(endpoint) is str else ""


def _ending(data: bytes, lossy: bool) -> bytes:
    """Return an entry's bytes after its seq, which replaces the first brace."""
    return data[1:-1] + b',"lossy":true}' if lossy else data[1:]


def _item_fields(state: SampleState, item: object) -> Mapping[str, object]:
    """Return what an entry holds of its item; nothing where items are not kept."""
    if not state.keep_items:
        return {}
    if type(item) is dict and item.keys() == {"language", "solution"}:
        return item
    return {"item": item}


def _join(head: dict[str, object], result: EncodedResult, tail: dict[str, object]) -> tuple[bytes, bool]:
    """Return the JSON of an entry whose result is encoded already, and whether something of it was lost."""
    before, lossy = values.encode(head, where="")
    after, _ = values.encode(tail, where="")
    return b'%b,"result":%b,%b' % (before[:-1], result.data, after[1:]), lossy or result.lossy


def _encode_error(fields: dict[str, object]) -> tuple[bytes, bool]:
    """Return the JSON of an error, and whether something of it was lost. It is saved even without its item."""
    try:
        return values.encode(fields, where="")
    except UnstorableError:
        return values.encode({k: v for k, v in fields.items() if k not in _ITEM_KEYS}, where="")
