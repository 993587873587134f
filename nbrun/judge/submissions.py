"""Programs of a problem package (submissions, output validators) -> items: one file, or a folder of them.

Read by the thread that feeds a run. What language a program is in is told by its files' names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: Where a file's name ends -> its language. Those without a row in `nbrun.judge.languages` are named, not dropped.
LANGUAGES = {
    ".c": "C", ".cpp": "CPP", ".cc": "CPP", ".cxx": "CPP", ".c++": "CPP", ".C": "CPP", ".java": "JAVA",
    ".py": "PYTHON3", ".py3": "PYTHON3", ".py2": "PYTHON", ".kt": "KOTLIN", ".rs": "RUST", ".go": "GO",
    ".hs": "HASKELL", ".js": "JAVASCRIPT", ".ts": "TYPESCRIPT", ".rb": "RUBY", ".cs": "CSHARP", ".fs": "FSHARP",
    ".pl": "PERL", ".php": "PHP", ".ml": "OCAML", ".scala": "SCALA", ".swift": "SWIFT", ".pas": "PASCAL",
    ".d": "D", ".jl": "JULIA", ".lisp": "LISP", ".lua": "LUA", ".m": "OBJECTIVEC", ".f90": "FORTRAN", ".sh": "SH",
    ".adb": "ADA", ".nim": "NIM", ".erl": "ERLANG", ".ex": "ELIXIR", ".dart": "DART", ".zig": "ZIG",
}  # fmt: skip
#: Folders of `include/` -> the language whose submissions get their files.
_INCLUDES = {"c": "C", "cpp": "CPP", "java": "JAVA", "python3": "PYTHON3", "python": "PYTHON3"}
_IGNORED = (".class", ".pyc", ".o", ".md", ".txt", ".exe", ".out")
_HEADERS = (".h", ".hpp", ".hh", ".hxx")
#: `@EXPECTED_RESULTS@: WRONG-ANSWER, TIMELIMIT` in a comment; DOMjudge's words -> the folders that mean the same.
_TAG = re.compile(r"@EXPECTED_RESULTS@:[ \t]*([A-Za-z_, -]+)")
_TAGS = {
    "CORRECT": "accepted", "ACCEPTED": "accepted", "WRONG_ANSWER": "wrong_answer", "NO_OUTPUT": "wrong_answer",
    "TIMELIMIT": "time_limit_exceeded", "TIME_LIMIT_EXCEEDED": "time_limit_exceeded", "RUN_ERROR": "run_time_error",
    "RUN_TIME_ERROR": "run_time_error", "COMPILER_ERROR": "compiler_error", "OUTPUT_LIMIT": "output_limit_exceeded",
}  # fmt: skip
_MAINS = ("main", "__main__", "Main")


def read_submissions(
    package: Path, due: Mapping[str, Sequence[str]]
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, list[Any]]]:
    """The groups of a row, and for each the verdicts that are due.

    One verdict is text, several that would do are a list, and None stands for items that can't be judged.
    """
    groups: dict[str, list[dict[str, Any]]] = {"solutions": [], "incorrect_solutions": []}
    expected: dict[str, list[Any]] = {"solution": [], "incorrect_solution": []}
    for folder in sorted(_inside(package / "submissions")):
        if not folder.is_dir():
            continue
        name = "solution" if folder.name == "accepted" else "incorrect_solution"
        for path in _inside(folder):
            item = read_program(path, package) | {"submission": f"{folder.name}/{path.name}"}
            verdicts = _tagged(item, due) or list(map(str, due.get(folder.name, ())))
            if not verdicts:
                item["not_supported"] = f"submissions in {folder.name}/ have no verdict of their own in this judge"
            groups[f"{name}s"].append(item)
            known = verdicts and "not_supported" not in item
            expected[name].append((verdicts[0] if len(verdicts) == 1 else verdicts) if known else None)
    return groups, expected


def _tagged(item: Mapping[str, Any], due: Mapping[str, Sequence[str]]) -> list[str]:
    """The verdicts that a source itself says are due, as DOMjudge reads them: they come before its folder's."""
    found = _TAG.search("\n".join([item["solution"], *item.get("files", {}).values()]))
    words = [_TAGS.get(word.strip().upper().replace("-", "_"), "") for word in found[1].split(",")] if found else []
    return list(dict.fromkeys(str(verdict) for word in words for verdict in due.get(word, ())))


def read_program(path: Path, package: Path) -> dict[str, Any]:
    """A file or a folder -> an item: `language`, `solution` (the main file), and if there are more, `file`, `files`."""
    paths = [path] if path.is_file() else [f for f in sorted(path.rglob("*")) if f.is_file() and _counts(f)]
    names = {str(f.relative_to(path)) if f != path else f.name: f for f in paths}
    language = _language(names)
    if {"build", "run"} & names.keys():
        return _unsupported(path, "it brings its own build script")
    if language is None:
        return _unsupported(path, "it holds no source")
    text = {name: _source(file) for name, file in names.items()}
    text |= _included(package, language)
    main = _main_of(language, text)
    item: dict[str, Any] = {"language": language, "solution": text.pop(main)}
    return item | ({"file": main, "files": text} if text else {})


def _unsupported(path: Path, reason: str) -> dict[str, Any]:
    return {"language": "UNKNOWN_LANGUAGE", "solution": "", "not_supported": f"{path.name}: {reason}"}


def _inside(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if _counts(p)) if folder.is_dir() else []


def _counts(path: Path) -> bool:
    hidden = path.name.startswith((".", "__pycache__")) or "__pycache__" in path.parts
    return not hidden and path.suffix not in _IGNORED and path.name not in ("submissions.yaml", "Makefile")


def _language(names: Mapping[str, Path]) -> str | None:
    """The language of most files."""
    found = Counter(LANGUAGES.get(f.suffix, f.suffix[1:].upper() or None) for f in names.values() if _is_source(f))
    known = [language for language, _ in found.most_common() if language is not None]
    if not known:
        return None
    best = known[0]
    if best == "PYTHON3" and any(_asks_for_python2(f) for f in names.values() if f.suffix == ".py"):
        return "PYTHON"
    return best


def _is_source(path: Path) -> bool:
    return path.suffix not in _HEADERS


def _asks_for_python2(path: Path) -> bool:
    with open(path, "rb") as file:
        first = file.readline(200)
    return first.startswith(b"#!") and b"python2" in first


def _included(package: Path, language: str) -> dict[str, str]:
    """What goes with every submission in a language."""
    out: dict[str, str] = {}
    for folder in _inside(package / "include"):
        if folder.name == "default" or _INCLUDES.get(folder.name.lower()) == language:
            out |= {str(f.relative_to(folder)): _source(f) for f in sorted(folder.rglob("*")) if f.is_file()}
    return out


def _main_of(language: str, text: Mapping[str, str]) -> str:
    """The file that is run, or that has `main`."""
    sources = [name for name in text if LANGUAGES.get(Path(name).suffix) == language] or list(text)
    for stem in _MAINS:
        for name in sources:
            if Path(name).stem == stem:
                return name
    if language == "PYTHON3":
        return next((name for name in sources if not _is_imported(name, text)), sources[0])
    return next((name for name in sources if "main(" in text[name]), sources[0])


def _is_imported(name: str, text: Mapping[str, str]) -> bool:
    """Whether one of the other files imports a Python file."""
    imports = re.compile(rf"^\s*(?:from|import)\b.*\b{re.escape(Path(name).stem)}\b", re.MULTILINE)
    return any(imports.search(source) for other, source in text.items() if other != name)


def _source(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
