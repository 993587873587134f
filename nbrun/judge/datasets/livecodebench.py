"""LiveCodeBench: public tests are JSON text; private ones are JSON, or base64 of zlib of a pickle of JSON text.

Rows come from strangers, and loading a pickle may run any code. So a reader of our own reads it, which supports text
and lists only.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

from nbrun.judge.datasets.shape import Draft, Shape, fields_of, starter_function
from nbrun.judge.datasets.tests import Tests, read_tests, says_call
from nbrun.judge.datasets.values import first, has, parsed, text_of

#: The largest size of one problem's decompressed tests.
MAX_BYTES = 1 << 29
_STRUCTURES = re.compile(r"^(?!\s*#).*\b(ListNode|TreeNode)\b", re.MULTILINE)


def _read(row: Mapping[str, Any]) -> Draft:
    metadata = parsed(first(row, "metadata") or {}, "metadata")
    function = metadata.get("func_name") if isinstance(metadata, Mapping) else None
    names = {"public_tests": "public_test_cases", "private_tests": "private_test_cases"}
    fields = fields_of(row)
    if found := _STRUCTURES.search(text_of(row, "starter_code")):
        fields["not_supported"] = f"functions that take a {found[1]}"
    sets = {ours: row[column] for ours, column in names.items() if has(row, column)}
    starter = starter_function(row)
    if function is None and starter is not None and any(says_call(value) for value in sets.values()):
        function = starter  # private tests are encoded, but have the same kind as the public ones
    return Draft(sets, fields, function, _tests, starter, names)


def _tests(value: object, where: str, function: str | None) -> Tests:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str) and value.lstrip()[:1] not in ("", "[", "{") and value.strip() != "null":
        value = decoded(value, where)
    return read_tests(value, where, function)


def decoded(text: str, where: str) -> object:
    """Decode tests that are base64 of zlib of a pickle of JSON text, or of JSON text.

    Raises:
        ValueError: the text is anything else, or is decompressed to more than `MAX_BYTES`.
    """
    try:
        packed = base64.b64decode("".join(text.split()), validate=True)
        unpack = zlib.decompressobj()
        data = unpack.decompress(packed, MAX_BYTES)
    except (binascii.Error, zlib.error, ValueError) as e:
        raise ValueError(f"{where!r} is neither JSON nor base64 of zlib: {e}") from None
    if unpack.unconsumed_tail or not unpack.eof:
        raise ValueError(f"{where!r} is cut off, or takes more than {MAX_BYTES >> 20} MiB once it is decompressed")
    try:
        value = load_text_and_lists(data) if data[:1] == b"\x80" else data.decode()
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as e:
        raise ValueError(f"{where!r} can't be decoded: {e}") from None


_TEXTS = {0x8C: 1, 0x58: 4, 0x8D: 8}  # opcodes of text -> the number of bytes of its length
_SKIPPED = {0x80: 1, 0x95: 8}  # protocol and frame -> the number of bytes that follow
_PUTS = {0x71: 1, 0x72: 4}  # BINPUT, LONG_BINPUT
_GETS = {0x68: 1, 0x6A: 4}  # BINGET, LONG_BINGET


def load_text_and_lists(data: bytes) -> object:
    """Return the value of a pickle of text and lists of text.

    Raises:
        ValueError: the pickle has any other value.

    Example:
        >>> import pickle
        >>> load_text_and_lists(pickle.dumps(["a", ["b"]]))
        ['a', ['b']]
    """
    stack: list[object] = []
    marks: list[int] = []
    memo: dict[int, object] = {}
    at = 0

    def take(size: int) -> int:
        nonlocal at
        at += size
        return int.from_bytes(data[at - size : at], "little")

    try:
        while True:
            code = data[at]
            at += 1
            if code in _SKIPPED:
                at += _SKIPPED[code]
            elif code == 0x94:  # MEMOIZE
                memo[len(memo)] = stack[-1]
            elif code in _PUTS:
                memo[take(_PUTS[code])] = stack[-1]
            elif code in _GETS:  # a reference to an earlier text
                stack.append(_text_again(memo[take(_GETS[code])]))
            elif code in _TEXTS:
                size = take(_TEXTS[code])
                begin, at = at, at + size
                if at > len(data):
                    raise ValueError("the pickle is cut off")
                stack.append(data[begin:at].decode("utf-8", "surrogatepass"))
            elif code == 0x5D:  # EMPTY_LIST
                stack.append([])
            elif code == 0x28:  # MARK
                marks.append(len(stack))
            elif code == 0x61:  # APPEND
                value = stack.pop()
                _list(stack).append(value)
            elif code == 0x65:  # APPENDS
                begin = marks.pop()
                values = stack[begin:]
                del stack[begin:]
                _list(stack).extend(values)
            elif code == 0x2E and len(stack) == 1:  # STOP
                return stack.pop()
            else:
                raise ValueError(f"the pickle holds more than text and lists (opcode {code:#04x} at {at - 1})")
    except (IndexError, KeyError):
        raise ValueError("the pickle is cut off or damaged") from None


def _list(stack: list[object]) -> list[object]:
    if not stack or not isinstance(stack[-1], list):
        raise ValueError("the pickle is damaged")
    return stack[-1]


def _text_again(value: object) -> str:
    """Return an earlier value if it is text.

    Repeated lists are refused, since a list that contains itself, or is in many others, would be endless in JSON.
    """
    if not isinstance(value, str):
        raise ValueError("the pickle holds a list twice")
    return value


LIVECODEBENCH = Shape(
    "LiveCodeBench",
    "https://huggingface.co/datasets/livecodebench/code_generation_lite",
    needs=(("public_test_cases",), ("private_test_cases",)),
    columns=("metadata", "starter_code", "question_title"),
    ids=("question_id", "id", "question_title"),
    read=_read,
)
