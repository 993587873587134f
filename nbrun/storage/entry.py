"""A task's outcome -> its entry's bytes, all but the seq, which the journal gives it.

Called by workers for every result, so it is written for speed: one dictionary, one call of orjson.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from nbrun import verdicts
from nbrun.errors import UnstorableError
from nbrun.storage import values
from nbrun.storage.book import DONE, ERROR, Book

#: position, group number, index, hexadecimal key, occurrence, status code, verdict, the entry's bytes after its seq
EntryRecord = tuple[int, int, int, bytes, int, int, str | None, bytes]
#: What an entry holds of its item.
_ITEM_KEYS = ("item", "language", "solution")
#: Filled with index, key, occurrence, seq and the rest.
ENTRY = b'{"index":%d,"key":"k1:%b","occurrence":%d,"seq":%d,%b'


class EncodedResult(NamedTuple):
    """A result as an executor's worker encoded it: nothing of it is decoded or encoded again here."""

    data: bytes
    lossy: bool
    verdict: str | None
    api_used: str


def encode_result(result: Mapping[str, Any]) -> EncodedResult:
    """What a worker sends instead of a result."""
    data, lossy = values.encode(result)
    endpoint = result.get("api_used", "")
    return EncodedResult(data, lossy, verdicts.of(result), endpoint if type(endpoint) is str else "")


def encode(
    book: Book, position: int, result: Mapping[str, Any] | EncodedResult | None, attempts: int, started_at: float,
    duration_s: float, worker_id: str, error: Mapping[str, str] | None, keep_items: bool,
) -> EntryRecord:  # fmt: skip
    """See model.ResultSink.encode."""
    for base, number, group in book.places:  # noqa: B007
        if position >= base:
            break
    rank = position - base
    index = group.runnable[rank]
    fields: dict[str, Any] = {"status": "done" if error is None else "error"}
    plain = True
    if keep_items:
        item = group.items[index]
        if type(item) is dict and len(item) == 2 and "language" in item and "solution" in item:
            fields.update(item)
            plain = values.is_plain(item.values())
        else:
            fields["item"] = item
            plain = type(item) in values.NEVER_NULL
    if type(result) is EncodedResult:
        return _encode_around(
            book, position, number, index, rank, group, fields, plain, result,
            {"attempts": attempts, "started_at": started_at, "duration_s": duration_s}, worker_id,
        )  # fmt: skip
    fields["result"] = result
    fields["attempts"] = attempts
    fields["started_at"] = started_at
    fields["duration_s"] = duration_s
    endpoint = ""
    if error is not None:
        fields["error"] = error
    elif type(result) is dict:
        plain = plain and values.is_plain(result.values())
        endpoint = result.get("api_used", "")
        if endpoint:
            if type(endpoint) is not str:
                endpoint = ""
            book.api_used = endpoint
    else:
        plain = False
    fields["run_id"] = book.run_id
    fields["context"] = book.context
    fields["worker_id"] = book.worker_id = worker_id
    fields["api_used"] = endpoint
    try:
        data, lossy = values.encode(fields, plain and error is None, "")
    except UnstorableError:
        if error is None:
            raise
        for name in _ITEM_KEYS:  # an error is always told, if need be without its item
            fields.pop(name, None)
        data, lossy = values.encode(fields, False, "")
    if lossy:
        data = data[:-1] + b',"lossy":true}'
    occurrences = group.occurrences
    return (
        position, number, index, book.hex_keys[number][rank * 32 : rank * 32 + 32],
        0 if occurrences is None else occurrences[rank], DONE if error is None else ERROR,
        verdicts.of(result) if error is None else None, data[1:],
    )  # fmt: skip


def _encode_around(
    book: Book, position: int, number: int, index: int, rank: int, group: Any, before: dict[str, Any], plain: bool,
    result: EncodedResult, after: dict[str, Any], worker_id: str,
) -> EntryRecord:  # fmt: skip
    """The same for a result whose bytes are there already."""
    if result.api_used:
        book.api_used = result.api_used
    book.worker_id = worker_id
    after |= {
        "run_id": book.run_id, "context": book.context, "worker_id": worker_id, "api_used": result.api_used,
    }  # fmt: skip
    head, lossy = values.encode(before, plain, "")
    tail, _ = values.encode(after, True, "")
    if lossy or result.lossy:
        tail = tail[:-1] + b',"lossy":true}'
    occurrences = group.occurrences
    return (
        position, number, index, book.hex_keys[number][rank * 32 : rank * 32 + 32],
        0 if occurrences is None else occurrences[rank], DONE, result.verdict,
        b'%b,"result":%b,%b' % (head[1:-1], result.data, tail[1:]),
    )  # fmt: skip
