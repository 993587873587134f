"""Records -> entries: each names its own item, whatever was encoded together, and is where its place says."""

import json
import random

from nbrun.canonical import key_text
from nbrun.samples import SampleReader
from nbrun.storage.entry import BETWEEN, bodies, encode, pieces
from nbrun.storage.journal import Batch, encode_batch
from nbrun.storage.sample_state import SampleState

GROUPS = {"good": "g", "none": "n", "bad": "b"}
RAW = {"id": "s", "g": ["a", "b", "a", {"x": None}], "n": [], "b": [1, 2, 1, 1]}


def records_of(state):
    made = {"type": "E", "message": "", "traceback": ""}
    return [
        encode(state, p, state.item(p), None if p == 5 else {"p": p}, 1, 0.5, 0.25, "w", made if p == 5 else None)
        for p in range(state.total)
    ]


def new_state():
    return SampleState(SampleReader(GROUPS).read(RAW, 0), "s.json", "run")


def test_entries_of_mixed_groups_stand_where_they_are_said_to():
    for seed in range(20):
        state = new_state()
        records = records_of(state)
        random.Random(seed).shuffle(records)
        data, ((_, fresh, size),) = encode_batch([Batch(state, records, 0, None)], [], 3, 100, 41)
        assert size == len(data)
        assert [f[1] for f in fresh] == list(range(42, 42 + len(records)))
        assert [f[0] for f in fresh] == [r[0] for r in records]
        for position, seq, _, _, offset, length, _, body in fresh:
            assert data[offset - 100 : offset - 100 + length] == body
            entry = json.loads(body)
            group, rank = state.sample.locate(position)
            assert entry["index"] == group.runnable[rank]
            assert (entry["key"], entry["occurrence"]) == (key_text(group.key(rank)), group.occurrence(rank))
            assert entry["seq"] == seq
            assert entry["item"] == state.item(position)
            assert entry["result"] == (None if position == 5 else {"p": position})
            assert entry["status"] == ("error" if position == 5 else "done")


def test_pieces_are_the_entries():
    state = new_state()
    records = records_of(state)
    whole = {number: BETWEEN.join(stretch) for number, stretch in bodies(state, records, 41)}
    assert [b"".join(parts) for parts in pieces(state, records, 41)] == [whole[0], b"", whole[2]]
