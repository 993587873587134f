"""Programs of a problem package (submissions, output validators) -> items: one file, or a folder of them.

Read by the thread that feeds a run. What language a program is in is told by its files' names.
"""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbrun.judge.language_names import language_name
from nbrun.judge.package_data import read_yaml
from nbrun.verdicts import REJECTED, Verdict

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
_JAVA_MAIN = re.compile(r"\bstatic\s+(?:\w+\s+)*void\s+main\s*\(")
#: Languages whose compilers and interpreters take a source's bytes as they are; the others want UTF-8.
_BYTES = ("C", "CPP", "PYTHON", "PASCAL")
#: As Python looks for it in the first two lines.
_CODING = re.compile(r"\A(?:[^\n]*\n)?[ \t\f]*#[^\n]*coding[:=]")
#: A program that brings a script `build`, `run` or both: see `nbrun.judge.languages`.
SCRIPT = "SCRIPT"
_SCRIPTS = ("build", "run")
EXPECTATIONS = "submissions.yaml"
#: Verdicts of submissions.yaml -> ours.
_PERMITTED = {
    "AC": (Verdict.ACCEPTED,), "WA": (Verdict.WRONG_ANSWER, Verdict.OUTPUT_LIMIT_EXCEEDED),
    "TLE": (Verdict.TIME_LIMIT_EXCEEDED,), "RTE": (Verdict.RUNTIME_ERROR, Verdict.MEMORY_LIMIT_EXCEEDED),
    "OLE": (Verdict.OUTPUT_LIMIT_EXCEEDED,), "MLE": (Verdict.MEMORY_LIMIT_EXCEEDED,), "CE": (Verdict.COMPILE_ERROR,),
    "PAC": (Verdict.ACCEPTED, *sorted(REJECTED)),
}  # fmt: skip


def read_submissions(
    package: Path, due: Mapping[str, Sequence[str]]
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, list[Any]]]:
    """The groups of a row, and for each the verdicts that are due.

    One verdict is text, several that would do are a list, and None stands for items that can't be judged.
    """
    groups: dict[str, list[dict[str, Any]]] = {"solutions": [], "incorrect_solutions": []}
    expected: dict[str, list[Any]] = {"solution": [], "incorrect_solution": []}
    said = _expectations(package)
    for folder in sorted(_inside(package / "submissions")):
        if not folder.is_dir():
            continue
        for path in _inside(folder):
            about = _about(said, f"{folder.name}/{path.name}")
            item = read_program(path, package, _given(about)) | {"submission": f"{folder.name}/{path.name}"}
            verdicts = _expected(about, due) or _tagged(item, due) or list(map(str, due.get(folder.name, ())))
            right = verdicts == [Verdict.ACCEPTED] if _expected(about, due) else folder.name == "accepted"
            name = "solution" if right else "incorrect_solution"
            if not verdicts:
                item["not_supported"] = f"submissions in {folder.name}/ have no verdict of their own in this judge"
            groups[f"{name}s"].append(item)
            known = verdicts and "not_supported" not in item
            expected[name].append((verdicts[0] if len(verdicts) == 1 else verdicts) if known else None)
    return groups, expected


def _expectations(package: Path) -> Mapping[str, Any]:
    """`submissions/submissions.yaml`: patterns of submissions -> what is said of them.

    Raises:
        ValueError: it is no YAML, or holds something else than mappings.
    """
    path = package / "submissions" / EXPECTATIONS
    found = read_yaml(path) if path.is_file() else {}
    for pattern, about in found.items():
        if not isinstance(about, (Mapping, str)):
            raise ValueError(f"{EXPECTATIONS}: {pattern!r} has a {type(about).__name__}, not a mapping")
    return found


def _about(said: Mapping[str, Any], name: str) -> dict[str, Any]:
    """All that is said of a submission; what is said later counts."""
    about: dict[str, Any] = {}
    for pattern, told in said.items():
        for alternative in _alternatives(str(pattern).strip("/")):
            if fnmatch.fnmatchcase(name, alternative) or name.startswith(f"{alternative}/"):
                about |= {"expectation": told} if isinstance(told, str) else told
    return about


def _alternatives(pattern: str) -> list[str]:
    """`a/{b,c}.py` -> `a/b.py`, `a/c.py`."""
    if not (match := re.search(r"\{([^{}]*)\}", pattern)):
        return [pattern]
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [whole for part in match[1].split(",") for whole in _alternatives(before + part + after)]


def _given(about: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The language and the main file that are said of a submission."""
    language = language_name(about.get("language"))
    entry = about.get("entrypoint")
    return (language.language if language else None), (str(entry) if entry else None)


def _expected(about: Mapping[str, Any], due: Mapping[str, Sequence[str]]) -> list[str]:
    """The verdicts that are due by what is said of a submission; none where nothing is."""
    words = about.get("required") or about.get("permitted") or about.get("expectation") or ()
    words = [words] if isinstance(words, str) else list(words)
    found = (_PERMITTED.get(str(word).upper()) or due.get(str(word).lower(), ()) for word in words)
    return list(dict.fromkeys(str(verdict) for verdicts in found for verdict in verdicts))


def _tagged(item: Mapping[str, Any], due: Mapping[str, Sequence[str]]) -> list[str]:
    """The verdicts that a source itself says are due, as DOMjudge reads them: they come before its folder's."""
    found = _TAG.search("\n".join([item["solution"], *item.get("files", {}).values()]))
    words = [_TAGS.get(word.strip().upper().replace("-", "_"), "") for word in found[1].split(",")] if found else []
    return list(dict.fromkeys(str(verdict) for word in words for verdict in due.get(word, ())))


def read_program(path: Path, package: Path, given: tuple[str | None, str | None] = (None, None)) -> dict[str, Any]:
    """Return the item of a file or a folder: `language`, `solution` (the main file), and if there are more, `file` and
    `files`; `encoding` where its bytes are no UTF-8 and must stay as they are.

    Args:
        given: its language and its main file, where the package says so.
    """
    paths = [path] if path.is_file() else [f for f in sorted(path.rglob("*")) if f.is_file() and _counts(f)]
    names = {str(f.relative_to(path)) if f != path else f.name: f for f in paths}
    scripts = [name for name in _SCRIPTS if name in names]
    language = SCRIPT if scripts else given[0] or _language(names)
    if language is None:
        return _unsupported(path, "it holds no source")
    if language != SCRIPT:
        for name, file in _included(package, language):
            names.setdefault(name, file)
    text, encoding = _sources(names, language)
    main = scripts[0] if scripts else given[1] if given[1] in text else _main_of(language, text)
    item: dict[str, Any] = {"language": language, "solution": text.pop(main)}
    item |= {"file": main, "files": text} if text or language == SCRIPT else {}
    return item | ({"encoding": encoding} if encoding else {})


def read_validator(path: Path, package: Path) -> dict[str, Any]:
    """Return the item of an output validator, which gets the headers beside it and those that the package shares."""
    item = read_program(path, package)
    headers: dict[str, Path] = {}
    for folder in (path.parent, package / "include", package, package / "input_validators"):
        for file in _inside(folder):
            if file.suffix in _HEADERS:
                headers.setdefault(file.name, file)
    main = item.get("file") or next((f.name for f in (path, *_inside(path)) if f.is_file()), "main.cpp")
    own = {main, *item.get("files", {})}
    found, _ = _sources({name: file for name, file in headers.items() if name not in own}, item["language"])
    if found and item["language"] in ("C", "CPP"):
        item |= {"file": main, "files": {**found, **item.get("files", {})}}
        sources = (item["solution"], *item["files"].values())
        if any('"../' in source for source in sources):  # one folder deeper, so that they are found there too
            inner = {f"source/{name}": text for name, text in item["files"].items()}
            item |= {"file": f"source/{main}", "files": {**found, **inner}}
    return item | {"name": path.relative_to(package).as_posix()}


def _sources(names: Mapping[str, Path], language: str) -> tuple[dict[str, str], str]:
    """Return the texts of files, and the encoding that gives their bytes again; none where that is UTF-8."""
    data = {name: file.read_bytes() for name, file in names.items()}
    try:
        return {name: content.decode("utf-8") for name, content in data.items()}, ""
    except UnicodeDecodeError:
        text = {name: content.decode("latin-1") for name, content in data.items()}
    keeps = language in _BYTES or (language == "PYTHON3" and any(map(_CODING.search, text.values())))
    if keeps:
        return text, "latin-1"
    return {name: _decoded(content) for name, content in data.items()}, ""


def _unsupported(path: Path, reason: str) -> dict[str, Any]:
    return {"language": "UNKNOWN_LANGUAGE", "solution": "", "not_supported": f"{path.name}: {reason}"}


def _inside(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if _counts(p)) if folder.is_dir() else []


def _counts(path: Path) -> bool:
    hidden = path.name.startswith((".", "__pycache__")) or "__pycache__" in path.parts
    return not hidden and path.suffix not in _IGNORED and path.name not in (EXPECTATIONS, "Makefile")


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


def _included(package: Path, language: str) -> Iterator[tuple[str, Path]]:
    """Yield what goes with every submission in a language: name, file."""
    for folder in reversed(_inside(package / "include")):  # a language's own comes before the default
        if folder.is_dir() and (folder.name == "default" or _INCLUDES.get(folder.name.lower()) == language):
            yield from ((str(f.relative_to(folder)), f) for f in sorted(folder.rglob("*")) if f.is_file())


def _main_of(language: str, text: Mapping[str, str]) -> str:
    """The file that is run, or that has `main`."""
    sources = [name for name in text if LANGUAGES.get(Path(name).suffix) == language] or list(text)
    if language == "JAVA":
        with_main = [name for name in sources if _JAVA_MAIN.search(text[name])]
        sources = with_main or sources
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


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
