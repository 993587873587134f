"""Finds the main class of a Java source, which is the public one or the one with `main`, and renames it.

Called by worker threads; pure functions.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_SKIPPED = re.compile(rb'/\*.*?\*/|//[^\n]*|"""(?:\\.|.)*?"""|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
_PACKAGE = re.compile(rb"^\s*package\s+([\w.]+)\s*;", re.MULTILINE)
_TYPE = re.compile(rb"(?P<before>(?:[\w@]+\s+)*)(?:class|enum|record|interface)\s+(?P<name>\w+)")
_MAIN = re.compile(rb"\bstatic\s+(?:\w+\s+)*void\s+main\s*\(")


def main_class(source: bytes) -> str:
    """Return the full name of the class to run; `Main` if the source has none, which the compiler reports.

    Example:
        >>> main_class(b"class A {} class B { public static void main(String[] a) {} }")
        'B'
        >>> main_class(b"package x.y; // class C\\npublic class Solve { }")
        'x.y.Solve'
    """
    code = _SKIPPED.sub(lambda m: b"0" if m[0][:1] in b"\"'" else b" ", source)
    package = _PACKAGE.search(code)
    prefix = package[1].decode("utf-8", "replace") + "." if package else ""
    return prefix + _chosen(_types(code))


class _Type(NamedTuple):
    name: str
    is_public: bool
    has_main: bool = False


def _types(code: bytes) -> list[_Type]:
    """Return the classes, enums, records and interfaces at the top level of a file."""
    found: list[_Type] = []
    depth, at = 0, 0
    for brace in re.finditer(rb"[{}]", code):
        piece = code[at : brace.start()]
        if depth == 0 and brace[0] == b"{" and (match := _TYPE.search(piece)):
            name = match["name"].decode("utf-8", "replace")
            found.append(_Type(name, b"public" in match["before"].split()))
        elif depth == 1 and found and _MAIN.search(piece):
            found[-1] = found[-1]._replace(has_main=True)
        depth += 1 if brace[0] == b"{" else -1
        at = brace.end()
    return found


def _chosen(types: list[_Type]) -> str:
    """Return the first public type with `main`, or else the first public one, or else the first one with `main`."""
    best = max(types, key=lambda one: (one.is_public, one.has_main), default=None)
    return "Main" if best is None else best.name


def renamed_to_main(source: bytes) -> bytes:
    """Return a program with its main class renamed to `Main` and no package, for judges that compile `Main.java`.

    Strings and comments stay unchanged. Another class called `Main` gets another name.

    Example:
        >>> renamed_to_main(b'public class Solve { /* Solve */ Solve() {} static void main(String[] a) {} }')
        b'public class Main { /* Solve */ Main() {} static void main(String[] a) {} }'
    """
    package, _, name = main_class(source).rpartition(".")
    if name == "Main" and not package:
        return source
    others = b"Main_"
    while others in source:
        others += b"_"
    names = {} if name == "Main" else {name.encode(): b"Main", b"Main": others}

    def rename(code: bytes) -> bytes:
        return re.sub(rb"\w+", lambda m: names.get(m[0], m[0]), code)

    parts, at = [], 0
    for skipped in _SKIPPED.finditer(source):
        parts += [rename(source[at : skipped.start()]), skipped[0]]
        at = skipped.end()
    code = b"".join([*parts, rename(source[at:])])
    return re.sub(rb"(?m)^(\s*)package\s+[\w.]+\s*;", rb"\1", code, count=1) if package else code
