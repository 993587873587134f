"""A solution's source files: how they are read from an item and written to a folder for a compiler or interpreter.

Called by worker threads; the objects are immutable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from nbrun.errors import NotSupportedError
from nbrun.judge.languages import Language
from nbrun.judge.problems.solutions import unfenced
from nbrun.judge.python_prelude import NONE

#: Encoding of a source -> what becomes of characters that it can't encode.
_ERRORS = {"utf-8": "surrogatepass", "latin-1": "strict"}
_NAME = re.compile(r"[\w.+-]+(?:/[\w.+-]+)*", re.ASCII)


@dataclass(frozen=True)
class Source:
    """The files of one solution, to be compiled and run.

    Attributes:
        files: name -> content; a name may contain folders.
        entry: the file that is run, or that contains `main`.
        main: the replacement of `{main}` in the language's commands.
        prelude: the names of removed features that were restored for a solution written for an older version of its
            language, as its result reports them.
        env: environment variables that the prelude needs; `{folder}` in them is the folder of the files.
    """

    files: Mapping[str, bytes]
    entry: str
    main: str = ""
    prelude: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the files, readable for all users, since the program may run as another user."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o755 if content.startswith(b"#!") else 0o644)
        for inside in (folder, *(f for f in folder.rglob("*") if f.is_dir())):
            inside.chmod(0o755)

    def names(self, language: Language) -> list[str]:
        """Return the files to pass to the compiler, the entry first; without headers and data files."""
        rest = sorted(n for n in self.files if n != self.entry and n.endswith(language.extensions or ("\0",)))
        return [self.entry, *rest]

    def as_bytes(self) -> bytes:
        """Return the names and contents of all files as bytes, for a digest."""
        if len(self.files) == 1:
            return self.files[self.entry]
        return json.dumps([[name, content.hex()] for name, content in sorted(self.files.items())]).encode()


class Parts(NamedTuple):
    """The parts of a solution's item.

    Attributes:
        language: the language as the item names it.
        text: the source, without a code fence around it.
        files: the further files: name -> text.
        entry: the name of the main file; empty if the item names none.
    """

    language: object
    text: str
    files: Mapping[str, str]
    entry: str


def read_item(item: object) -> Parts:
    """Return the parts of an item.

    Raises:
        NotSupportedError: it isn't a mapping with `language` and `solution`, or is marked as not supported.
    """
    match item:
        case {"not_supported": str(reason)}:
            raise NotSupportedError(f"not supported: {reason}.")
        case {"language": language, "solution": str(text), **more}:
            pass
        case _:
            raise NotSupportedError(
                "a solution is a mapping such as {'language': 'PYTHON3', 'solution': 'print(1)'}, "
                f"not {type(item).__name__} {str(item)[:80]!r}."
            )
    if text.lstrip().startswith("```"):  # a model's complete answer; no program begins like this
        text = unfenced(text).code
    files, entry = _further_files(more.get("files") or {}), str(more.get("file") or "")
    _check_names([*filter(None, [entry]), *map(str, files)])
    return Parts(language, text, files, entry)


def _further_files(files: object) -> Mapping[str, str]:
    if isinstance(files, Mapping) and all(isinstance(content, str) for content in files.values()):
        return files
    raise NotSupportedError("a solution's `files` is a mapping: name -> text.")


def _check_names(names: Iterable[str]) -> None:
    """Raise NotSupportedError if a folder can't hold files with these names."""
    for name in names:
        if not _NAME.fullmatch(name) or ".." in name.split("/"):
            raise NotSupportedError(f"a solution's file is named {name[:80]!r}: give letters, digits, . _ + - and /.")


def source_of(item: Any, language: Language) -> Source:
    """Return the files of an item, with the names that its language requires.

    Raises:
        NotSupportedError: see `read_item`.
    """
    _, text, files, entry = read_item(item)
    encoded = _encoder_of(item)
    code = encoded(text)
    main = language.main(code) if language.main is not None else ""
    if not entry or language.main is not None:
        entry = language.source.replace("{main}", main.rpartition(".")[2])
    own = {**{str(name): encoded(content) for name, content in files.items()}, entry: code}
    prelude = NONE if language.prelude is None else language.prelude(own)
    return Source({**own, **prelude.files}, entry, main, prelude.names, prelude.env)


def _encoder_of(item: Mapping[str, object]) -> Callable[[str], bytes]:
    """Return what encodes the texts of an item."""
    encoding = str(item.get("encoding") or "utf-8")
    if encoding not in _ERRORS:
        raise NotSupportedError(f"a solution's encoding is {encoding[:40]!r}: give utf-8 or latin-1.")
    return partial(str.encode, encoding=encoding, errors=_ERRORS[encoding])
