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
from collections.abc import Callable

from nbrun.judge.datasets.shape import Draft, Shape
from nbrun.judge.datasets.tests import Tests, read_tests, says_call
from nbrun.judge.datasets.values import first, mapping_in, text_of
from nbrun.tuning import TUNING

_STRUCTURES = re.compile(r"^(?!\s*#).*\b(ListNode|TreeNode)\b", re.MULTILINE)


def _finish(draft: Draft) -> None:
    draft.read = _tests
    draft.function = mapping_in(first(draft.row, "metadata"), "metadata").get("func_name")
    if found := _STRUCTURES.search(text_of(draft.row, "starter_code")):
        draft.fields["not_supported"] = f"functions that take a {found[1]}"
    if draft.function is None and any(map(says_call, draft.sets.values())):
        draft.function = draft.starter  # private tests are encoded, but have the same kind as the public ones


def _tests(value: object, where: str, function: str | None) -> Tests:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str) and value.lstrip()[:1] not in ("", "[", "{") and value.strip() != "null":
        value = decoded(value, where)
    return read_tests(value, where, function)


def decoded(text: str, where: str) -> object:
    """Decode tests that are base64 of zlib of a pickle of JSON text, or of JSON text.

    Raises:
        ValueError: the text is anything else, or is decompressed to more than `TUNING.livecodebench_max_bytes`.
    """
    most = TUNING.livecodebench_max_bytes
    try:
        packed = base64.b64decode("".join(text.split()), validate=True)
        unpack = zlib.decompressobj()
        data = unpack.decompress(packed, most)
    except (binascii.Error, zlib.error, ValueError) as e:
        raise ValueError(f"{where!r} is neither JSON nor base64 of zlib: {e}") from None
    if unpack.unconsumed_tail or not unpack.eof:
        raise ValueError(f"{where!r} is cut off, or takes more than {most >> 20} MiB once it is decompressed")
    try:
        value = load_text_and_lists(data) if data[:1] == b"\x80" else data.decode()
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as e:
        raise ValueError(f"{where!r} can't be decoded: {e}") from None


def load_text_and_lists(data: bytes) -> object:
    """Return the value of a pickle of text and lists of text.

    Raises:
        ValueError: the pickle has any other value.

    Example:
        >>> import pickle
        >>> load_text_and_lists(pickle.dumps(["a", ["b"]]))
        ['a', ['b']]
    """
    reader = _Unpickler(data)
    try:
        while (code := reader.take(1)) != _STOP:
            step = _STEPS.get(code)
            if step is None:
                raise ValueError(f"the pickle holds more than text and lists (opcode {code:#04x} at {reader.at - 1})")
            step(reader)
    except (IndexError, KeyError):
        raise ValueError("the pickle is cut off or damaged") from None
    if len(reader.stack) != 1:
        raise ValueError("the pickle is damaged")
    return reader.stack[0]


class _Unpickler:
    """The state of reading a pickle: what is left on its stack, and what it may refer to again."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}

    def take(self, size: int) -> int:
        """Return the number in the next `size` bytes."""
        return int.from_bytes(self.bytes(size), "little")

    def bytes(self, size: int) -> bytes:
        """Return the next bytes."""
        self.at += size
        if self.at > len(self.data):
            raise IndexError
        return self.data[self.at - size : self.at]

    def text(self, size: int) -> None:
        """Read a text; the number in the next `size` bytes is its length."""
        self.stack.append(self.bytes(self.take(size)).decode("utf-8", "surrogatepass"))

    def put(self, number: int) -> None:
        """Remember the last value under a number."""
        self.memo[number] = self.stack[-1]

    def get(self, number: int) -> None:
        """Repeat an earlier text.

        Repeated lists are refused, since a list that contains itself, or is in many others, would be endless in JSON.
        """
        if not isinstance(value := self.memo[number], str):
            raise ValueError("the pickle holds a list twice")
        self.stack.append(value)

    def append(self, begin: int) -> None:
        """Move the values from a place of the stack on into the list before them."""
        values = self.stack[begin:]
        del self.stack[begin:]
        if not self.stack or not isinstance(self.stack[-1], list):
            raise ValueError("the pickle is damaged")
        self.stack[-1].extend(values)


_STOP = 0x2E
#: Opcodes of pickle -> what they do.
_STEPS: dict[int, Callable[[_Unpickler], object]] = {
    0x80: lambda r: r.bytes(1),  # PROTO
    0x95: lambda r: r.bytes(8),  # FRAME
    0x8C: lambda r: r.text(1),  # SHORT_BINUNICODE
    0x58: lambda r: r.text(4),  # BINUNICODE
    0x8D: lambda r: r.text(8),  # BINUNICODE8
    0x94: lambda r: r.put(len(r.memo)),  # MEMOIZE
    0x71: lambda r: r.put(r.take(1)),  # BINPUT
    0x72: lambda r: r.put(r.take(4)),  # LONG_BINPUT
    0x68: lambda r: r.get(r.take(1)),  # BINGET
    0x6A: lambda r: r.get(r.take(4)),  # LONG_BINGET
    0x5D: lambda r: r.stack.append([]),  # EMPTY_LIST
    0x28: lambda r: r.marks.append(len(r.stack)),  # MARK
    0x61: lambda r: r.append(len(r.stack) - 1),  # APPEND
    0x65: lambda r: r.append(r.marks.pop()),  # APPENDS
}

LIVECODEBENCH = Shape(
    "LiveCodeBench",
    "https://huggingface.co/datasets/livecodebench/code_generation_lite, https://github.com/LiveCodeBench/LiveCodeBench",
    sets={"public_tests": ("public_test_cases",), "private_tests": ("private_test_cases",)},
    ids=("question_id", "id", "question_title"),
    columns=("metadata",),
    finish=_finish,
)
