"""A task's outcome -> its entry's bytes, all but the seq, which the journal gives it.

Called by workers for every result, so it is written for speed: one dictionary, one call of orjson.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


def encode(
    book: Book, position: int, result: Mapping[str, Any] | None, attempts: int, started_at: float, duration_s: float,
    worker_id: str, error: Mapping[str, str] | None, keep_items: bool,
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
