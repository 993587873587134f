"""Reads a folder that is a Kattis or ICPC problem package as a problem row.

Called by the thread that feeds a run; writes nothing. The layout is that of
https://www.kattis.com/problem-package-format (legacy and 2023-07):

    problem.yaml                      name, type, limits, validation
    data/sample, data/secret          *.in and *.ans, in groups; testdata.yaml or test_group.yaml hold flags
    submissions/accepted, …           submissions, by the verdict that they should get
    output_validators/, output_validator/
    include/LANGUAGE/                 files that are added to every submission in this language

A problem that can't be judged here (multi-pass problems, graders of a package's own) has the reason under
`not_supported`: its tasks end as errors that say so, and count in no rate.
"""

from __future__ import annotations

import configparser
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nbrun.judge import archives, expectations
from nbrun.judge.datasets.values import flags_of
from nbrun.judge.expectations import PARTIALLY_ACCEPTED, VERDICTS_OF_FOLDERS, Hints, expectations_of, flat, hints_of
from nbrun.judge.language_names import language_name
from nbrun.judge.scoring import rules_of
from nbrun.verdicts import Verdict

MARK = "problem.yaml"
#: The format's limits for problems that name none.
MEMORY_LIMIT_MB, OUTPUT_LIMIT_MB = 2048.0, 8.0
#: Folder of a package's data -> the set of tests in a row.
_SETS = {"sample": "public_tests", "secret": "private_tests"}
_GROUP_FILES = ("test_group.yaml", "testdata.yaml")
_FLAGS = ("output_validator_args", "output_validator_flags")
_SUPPORTED_TYPES = ("pass-fail", "scoring", "interactive")
_REFUSED_TYPES = ("multi-pass", "submit-answer")
#: Words of the legacy format's `validation` that name a type.
_TYPES_OF_VALIDATION = {
    "score": "scoring",
    "interactive": "interactive",
    "multi-pass": "multi-pass",
    "multipass": "multi-pass",
}

#: Extension of a file -> its language. Languages without a row in `nbrun.judge.languages` are reported by name.
LANGUAGES = {
    ".c": "C", ".cpp": "CPP", ".cc": "CPP", ".cxx": "CPP", ".c++": "CPP", ".C": "CPP", ".java": "JAVA",
    ".py": "PYTHON3", ".py3": "PYTHON3", ".py2": "PYTHON", ".kt": "KOTLIN", ".rs": "RUST", ".go": "GO",
    ".hs": "HASKELL", ".js": "JAVASCRIPT", ".ts": "TYPESCRIPT", ".rb": "RUBY", ".cs": "CSHARP", ".fs": "FSHARP",
    ".pl": "PERL", ".php": "PHP", ".ml": "OCAML", ".scala": "SCALA", ".swift": "SWIFT", ".pas": "PASCAL",
    ".d": "D", ".jl": "JULIA", ".lisp": "LISP", ".lua": "LUA", ".m": "OBJECTIVEC", ".f90": "FORTRAN", ".sh": "SH",
    ".adb": "ADA", ".nim": "NIM", ".erl": "ERLANG", ".ex": "ELIXIR", ".dart": "DART", ".zig": "ZIG",
}  # fmt: skip
#: Folder of `include/` -> the language whose submissions get its files.
_INCLUDES = {"c": "C", "cpp": "CPP", "java": "JAVA", "python3": "PYTHON3", "python": "PYTHON3"}
_IGNORED = (".class", ".pyc", ".o", ".md", ".txt", ".exe", ".out")
_HEADERS = (".h", ".hpp", ".hh", ".hxx")
#: `@EXPECTED_RESULTS@: WRONG-ANSWER, TIMELIMIT` in a comment, as DOMjudge reads it.
_TAG = re.compile(r"@EXPECTED_RESULTS@:[ \t]*([A-Za-z_, -]+)")
#: DOMjudge's word for a verdict -> the folder that means the same.
_TAGS = {
    "CORRECT": "accepted", "ACCEPTED": "accepted", "WRONG_ANSWER": "wrong_answer", "NO_OUTPUT": "wrong_answer",
    "TIMELIMIT": "time_limit_exceeded", "TIME_LIMIT_EXCEEDED": "time_limit_exceeded", "RUN_ERROR": "run_time_error",
    "RUN_TIME_ERROR": "run_time_error", "COMPILER_ERROR": "compiler_error", "OUTPUT_LIMIT": "output_limit_exceeded",
}  # fmt: skip
_MAINS = ("main", "__main__", "Main")
_JAVA_MAIN = re.compile(r"\bstatic\s+(?:\w+\s+)*void\s+main\s*\(")
#: Languages whose compilers and interpreters read a source's bytes as they are; the others expect UTF-8.
_BYTE_LANGUAGES = ("C", "CPP", "PYTHON", "PASCAL")
#: An encoding declaration, which Python looks for in the first two lines.
_CODING = re.compile(r"\A(?:[^\n]*\n)?[ \t\f]*#[^\n]*coding[:=]")
#: The language of a program that has a script `build`, `run` or both; see `nbrun.judge.languages`.
SCRIPT = "SCRIPT"
_SCRIPTS = ("build", "run")
_NO_HINTS = Hints()
_CONSTANT = re.compile(r"\{\{([A-Za-z_]\w*)\}\}", re.ASCII)

#: Verdicts by the names of folders.
_Expected = Mapping[str, Sequence[Verdict]]


def find_packages(folder: Path, suffixes: Sequence[str] = ()) -> Iterator[Path]:
    """Yield the packages in a folder, in order of their names: the folder itself, or those inside it at any depth.

    Args:
        suffixes: the suffixes of archives that count too, if they hold a package or can't be opened.
    """
    if (folder / MARK).is_file():
        yield folder
        return
    for inside in sorted(folder.iterdir()):
        if inside.name.startswith("."):
            continue
        if inside.is_dir():
            yield from find_packages(inside, suffixes)
        elif inside.suffix.lower() in suffixes and archives.may_hold(inside, MARK):
            yield inside


def read_package(folder: Path, name: str) -> dict[str, object]:
    """Return the row of one package.

    Args:
        name: the row's id.

    Raises:
        ValueError: something in the package can't be read; the message names the file.
    """
    about = _read_yaml(folder / MARK)
    types = _types(about)
    reason = _refusal(about, types, folder)
    constants = _constants(about)
    expected = {**VERDICTS_OF_FOLDERS, **(PARTIALLY_ACCEPTED if "scoring" in types else {})}
    row: dict[str, Any] = {"id": name, **_limits(about, folder)}
    if "scoring" in types and reason is None:
        grading, reason = rules_of(_groups(folder, constants), _is_legacy(about))
        row["grading"] = grading
    sets = {} if reason else _sets_of_tests(folder, flags_of(about.get("validator_flags")), constants)
    tests = [test["name"] for tests in sets.values() for test in tests]
    row |= _submissions(folder, expected, constants, tests)
    if "interactive" in types:
        row["interactive"] = True
    if (left_out := row.pop("sets_no_time_limit")) and row["time_limit_from"] is not None:
        row["time_limit_from"]["left_out"] = left_out
    if reason is not None:
        return row | {"tests": [], "not_supported": reason}
    return row | sets | _checker(about, folder, constants)


# ---- problem.yaml


def _refusal(about: Mapping[str, object], types: Sequence[str], folder: Path) -> str | None:
    """Return why a problem can't be judged here; None if it can."""
    for kind in types:
        if kind in _REFUSED_TYPES:
            return f"a {kind} problem"
        if kind not in _SUPPORTED_TYPES:
            return f"a problem of the unknown type {kind!r}"
    if "interactive" in types or "custom" in str(about.get("validation") or "").split():
        validators = list(_validators(folder))
        if not validators:
            return "its output validator is missing"
        if "interactive" in types and len(validators) > 1:
            return "an interactive problem with several validators"
    grading = about.get("grading")
    has_grader = isinstance(grading, Mapping) and grading.get("custom_scoring") and (folder / "graders").is_dir()
    return "a scoring problem with a grader of its own" if "scoring" in types and has_grader else None


def _types(about: Mapping[str, Any]) -> list[str]:
    """Return the problem's types: the words of `type`, and those of the legacy `validation` that mean the same."""
    types = about.get("type") or "pass-fail"
    types = types.split() if isinstance(types, str) else [str(kind) for kind in types]
    words = str(about.get("validation") or "").split()
    return list(dict.fromkeys([*types, *(_TYPES_OF_VALIDATION[w] for w in words if w in _TYPES_OF_VALIDATION)]))


def _limits(about: Mapping[str, object], folder: Path) -> dict[str, object]:
    """Return the limits of problem.yaml, or of the files that some judging systems add to a package."""
    limits = about.get("limits") or {}
    if not isinstance(limits, Mapping):
        raise ValueError(f"{MARK}: limits is a {type(limits).__name__}, not a mapping")
    time_s = limits.get("time_limit")
    if time_s is None and (folder / ".timelimit").is_file():
        time_s = _read_text(folder / ".timelimit").strip()
    if time_s is None and (folder / "domjudge-problem.ini").is_file():
        time_s = _domjudge_time_limit(folder / "domjudge-problem.ini")
    return {
        "time_limit_s": time_s,
        "time_limit_from": _time_limit_rule(limits, _is_legacy(about)) if time_s is None else None,
        "memory_limit_mb": limits.get("memory") or MEMORY_LIMIT_MB,
        "output_limit_mb": limits.get("output") or OUTPUT_LIMIT_MB,
    }


def _is_legacy(about: Mapping[str, object]) -> bool:
    return "validation" in about or str(about.get("problem_format_version") or "legacy") == "legacy"


def _time_limit_rule(limits: Mapping[str, Any], is_legacy: bool) -> dict[str, float]:
    """Return how the time limit follows from the slowest accepted submission."""
    multipliers = limits.get("time_multipliers") or {}
    if is_legacy:
        rule = {"multiplier": limits.get("time_multiplier") or 5, "resolution": 1}
    else:
        multiplier = multipliers.get("ac_to_time_limit") if isinstance(multipliers, Mapping) else None
        rule = {"multiplier": multiplier or 2, "resolution": limits.get("time_resolution") or 1}
    for name, value in rule.items():
        if not isinstance(value, (int, float)) or not value > 0:
            raise ValueError(f"{MARK}: the {name} of the time limit is {value!r}, not a number above 0")
    return {name: float(value) for name, value in rule.items()}


def _domjudge_time_limit(path: Path) -> str | None:
    """Return `timelimit` from a file of `name = value` lines without sections."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string("[problem]\n" + _read_text(path))
    except configparser.Error as e:
        raise ValueError(f"{path.name}: {e}") from None
    value = parser.get("problem", "timelimit", fallback=None)
    return None if value is None else value.strip("'\" ")


def _constants(about: Mapping[str, object]) -> dict[str, str]:
    """Return the constants whose names stand as `{{name}}` in submissions, validators and files of groups."""
    constants = about.get("constants") or {}
    if not isinstance(constants, Mapping):
        raise ValueError(f"{MARK}: constants is a {type(constants).__name__}, not a mapping")
    return {str(name): _constant_text(value) for name, value in constants.items()}


def _constant_text(value: object) -> str:
    return str(value.get("value", "")) if isinstance(value, Mapping) else str(value)


def _filled(text: str, constants: Mapping[str, str]) -> str:
    """Return a text with constants in the places of their names; unknown names stay."""
    return _CONSTANT.sub(lambda match: constants.get(match[1], match[0]), text) if constants else text


# ---- output validators


def _checker(about: Mapping[str, object], folder: Path, constants: Mapping[str, str]) -> dict[str, object]:
    """Return the package's own output validators, or the comparison by flags; the tests hold the flags."""
    is_custom = "custom" in str(about.get("validation") or "").split() if _is_legacy(about) else True
    validators = _validators(folder) if is_custom else ()
    programs = [_with_constants(_validator_item(path, folder), constants) for path in validators]
    return {"checker": {"type": "validator", "programs": programs} if programs else {"type": "kattis"}}


def _validators(folder: Path) -> Iterator[Path]:
    """Yield the programs that validate output, each of which is a file or a folder."""
    for place in (folder / "output_validator", folder / "output_validators"):
        inside = sorted(p for p in place.iterdir() if not p.name.startswith((".", "_"))) if place.is_dir() else []
        if inside and (place.name == "output_validator" or not _are_programs(inside)):
            yield place  # its files are one program
        else:
            yield from (path for path in inside if path.is_dir() or path.suffix in LANGUAGES)
    yield from (path for path in sorted(folder.glob("output_validator.*")) if path.is_file())


def _are_programs(inside: Sequence[Path]) -> bool:
    """Return whether these are programs of their own, not the files of one: folders, or sources without headers."""
    if {"build", "run"} & {path.name for path in inside}:
        return False
    sources = [path for path in inside if path.suffix not in (".h", ".hpp")]
    return any(path.is_dir() for path in inside) or len(sources) == len(inside)


def _with_constants(item: dict[str, Any], constants: Mapping[str, str]) -> dict[str, object]:
    """Return the item of a program with constants filled in."""
    if not constants:
        return item
    item = item | {"solution": _filled(item["solution"], constants)}
    if "files" in item:
        item["files"] = {name: _filled(text, constants) for name, text in item["files"].items()}
    return item


def _validator_item(path: Path, package: Path) -> dict[str, object]:
    """Return the item of an output validator, with the headers beside it and those that the package shares."""
    item = _program_item(path, package)
    headers: dict[str, Path] = {}
    for folder in (path.parent, package / "include", package, package / "input_validators"):
        for file in _inside(folder):
            if file.suffix in _HEADERS:
                headers.setdefault(file.name, file)
    main = item.get("file") or next((f.name for f in (path, *_inside(path)) if f.is_file()), "main.cpp")
    own = {main, *item.get("files", {})}
    found, _ = _read_sources({name: file for name, file in headers.items() if name not in own}, item["language"])
    if found and item["language"] in ("C", "CPP"):
        item |= {"file": main, "files": {**found, **item.get("files", {})}}
        sources = (item["solution"], *item["files"].values())
        if any('"../' in source for source in sources):  # such an include finds them from a folder one level deeper
            inner = {f"source/{name}": text for name, text in item["files"].items()}
            item |= {"file": f"source/{main}", "files": {**found, **inner}}
    return item | {"name": path.relative_to(package).as_posix()}


# ---- tests


def _sets_of_tests(folder: Path, flags: Sequence[str], constants: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Return the sets of tests, each in the order in which a judge runs them.

    Args:
        flags: validator flags of all tests; those of groups and tests come after them.

    Raises:
        ValueError: an input has no answer, or there is no test at all.
    """
    data = folder / "data"
    root = _inherited(data, {}, constants)
    sets: dict[str, list[dict[str, object]]] = {}
    for name, key in _SETS.items():
        tests = sets[key] = []
        for path, group in _inputs(data / name, root, constants):
            about = _read_yaml(path.with_suffix(".yaml")) if path.with_suffix(".yaml").is_file() else {}
            about = {**group, **about}
            answer = path.with_suffix(".ans")
            if not answer.is_file():
                raise ValueError(f"{path.relative_to(folder)} has no {answer.name} beside it")
            test = {
                "input": _read_text(path),
                "output": _read_text(answer),
                "flags": [*flags, *_flags_in(about)],
                "name": path.relative_to(data).as_posix().removesuffix(".in"),
            }
            tests.append(test | _arguments_and_files(about, path.with_suffix(".files")))
    if not any(sets.values()):
        raise ValueError("data/ holds no *.in")
    return sets


def _inputs(
    folder: Path, inherited: Mapping[str, object], constants: Mapping[str, str]
) -> Iterator[tuple[Path, Mapping[str, object]]]:
    """Yield the inputs in a folder and in the groups below it, in order of their names, with what their group says."""
    if not folder.is_dir():
        return
    about = _inherited(folder, inherited, constants)
    for path in sorted(folder.iterdir(), key=lambda p: p.name.removesuffix(".in")):
        if path.is_dir() and path.suffix != ".files" and not path.name.startswith("."):
            yield from _inputs(path, about, constants)
        elif path.suffix == ".in" and path.is_file():
            yield path, about


def _inherited(folder: Path, above: Mapping[str, object], constants: Mapping[str, str]) -> Mapping[str, object]:
    """Return the arguments and flags of a group: its own, or those of the group that holds it."""
    about = _group_file(folder, constants) or {}
    own = {key: about[key] for key in ("args", *_FLAGS) if about.get(key) is not None}
    if any(key in own for key in _FLAGS):
        above = {key: value for key, value in above.items() if key not in _FLAGS}
    return {**above, **own}


def _flags_in(about: Mapping[str, object]) -> list[str]:
    return next((flags_of(about[key]) for key in _FLAGS if about.get(key) is not None), [])


def _groups(folder: Path, constants: Mapping[str, str]) -> dict[str, Mapping[str, object]]:
    """Return what the files of groups of tests hold, by the groups' paths below `data`."""
    data = folder / "data"
    found: dict[str, Mapping[str, object]] = {}
    for group in (data, *sorted(path for path in data.rglob("*") if path.is_dir())):
        about = _group_file(group, constants)
        if about is not None:
            found["" if group == data else group.relative_to(data).as_posix()] = about
    return found


def _group_file(folder: Path, constants: Mapping[str, str]) -> dict[str, object] | None:
    paths = (folder / name for name in _GROUP_FILES)
    return next((_read_yaml(path, constants) for path in paths if path.is_file()), None)


def _arguments_and_files(about: Mapping[str, object], files: Path) -> dict[str, object]:
    """Return the arguments and the files that a test gives a program besides its input."""
    found: dict[str, object] = {}
    if about.get("args"):
        found["arguments"] = flags_of(about["args"])
    if files.is_dir():
        paths = (path for path in sorted(files.rglob("*")) if path.is_file())
        found["files"] = {path.relative_to(files).as_posix(): _read_text(path) for path in paths}
    return found


# ---- submissions


class _Submission(NamedTuple):
    """A submission of a package.

    Attributes:
        group: the row's group of solutions that it belongs to.
        expected: the verdict that it should get, a list where several would do, None if it can't be judged.
    """

    name: str
    item: Mapping[str, object]
    group: str
    expected: str | list[str] | None
    checks: Sequence[expectations.Check]
    sets_time_limit: bool


def _submissions(
    package: Path, expected: _Expected, constants: Mapping[str, str], tests: Sequence[str]
) -> dict[str, object]:
    """Return the groups of a row, `expected_verdicts`, `expectations`, and the names that set no time limit."""
    rules = _read_rules(package)
    folders = [folder for folder in _inside(package / "submissions") if folder.is_dir()]
    found = [
        _submission(path, package, rules, expected, constants, tests) for folder in folders for path in _inside(folder)
    ]
    right, wrong = ([s for s in found if s.group == group] for group in ("solution", "incorrect_solution"))
    checks = {s.name: [check.record() for check in s.checks] for s in found if s.checks}
    return {
        "solutions": [s.item for s in right],
        "incorrect_solutions": [s.item for s in wrong],
        "expected_verdicts": {
            "solution": [s.expected for s in right],
            "incorrect_solution": [s.expected for s in wrong],
        },
        "sets_no_time_limit": [s.name for s in found if not s.sets_time_limit],
        **({"expectations": checks} if checks else {}),
    }


def _submission(
    path: Path,
    package: Path,
    rules: expectations.Rules,
    expected: _Expected,
    constants: Mapping[str, str],
    tests: Sequence[str],
) -> _Submission:
    folder = path.parent.name
    name = f"{folder}/{path.name}"
    hints = hints_of(rules, name)
    item = _with_constants(_program_item(path, package, hints), constants) | {"submission": name}
    default = _tagged_verdicts(item, expected) or flat([expected.get(folder, ())])
    said = expectations_of(rules, name, tests, default)
    verdicts = said.verdicts or default
    is_right = verdicts == [Verdict.ACCEPTED] if said.verdicts else folder == "accepted"
    if not verdicts:
        item["not_supported"] = f"submissions in {folder}/ have no verdict of their own in this judge"
    due = None if "not_supported" in item else verdicts[0] if len(verdicts) == 1 else verdicts
    group = "solution" if is_right else "incorrect_solution"
    return _Submission(name, item, group, due, said.checks, hints.sets_time_limit)


def _read_rules(package: Path) -> expectations.Rules:
    path = package / "submissions" / expectations.FILE
    return expectations.check_rules(_read_yaml(path) if path.is_file() else {})


def _tagged_verdicts(item: Mapping[str, Any], expected: _Expected) -> list[str]:
    """Return the verdicts that a source's own tag expects, which come before those of its folder."""
    tag = _TAG.search("\n".join([item["solution"], *item.get("files", {}).values()]))
    words = tag[1].split(",") if tag else ()
    return flat(expected.get(_TAGS.get(word.strip().upper().replace("-", "_"), ""), ()) for word in words)


# ---- programs


def _program_item(path: Path, package: Path, hints: Hints = _NO_HINTS) -> dict[str, Any]:
    """Return the item of a program that is a file or a folder.

    It has `language`, `solution` (the main file), `file` and `files` if there are more files, and `encoding` where its
    bytes are no UTF-8 and must stay as they are.
    """
    paths = [path] if path.is_file() else [f for f in sorted(path.rglob("*")) if f.is_file() and _counts(f)]
    names = {str(f.relative_to(path)) if f != path else f.name: f for f in paths}
    scripts = [name for name in _SCRIPTS if name in names]
    named = language_name(hints.language)
    language = SCRIPT if scripts else named.language if named else _language_of(names)
    if language is None:
        reason = f"{path.name}: it holds no source"
        return {"language": "UNKNOWN_LANGUAGE", "solution": "", "not_supported": reason}
    if language != SCRIPT:
        names |= dict(_included(package, language))  # the format has them replace a submission's own files
    text, encoding = _read_sources(names, language)
    entry = scripts[0] if scripts else hints.entry
    main = entry if entry in text else _main_of(language, text)
    item: dict[str, object] = {"language": language, "solution": text.pop(main)}
    item |= {"file": main, "files": text} if text or language == SCRIPT else {}
    return item | ({"encoding": encoding} if encoding else {})


def _language_of(names: Mapping[str, Path]) -> str | None:
    """Return the language of most files; None where none is a source."""
    sources = [f for f in names.values() if f.suffix not in _HEADERS]
    counts = Counter(LANGUAGES.get(f.suffix, f.suffix[1:].upper() or None) for f in sources)
    best = next((language for language, _ in counts.most_common() if language is not None), None)
    if best == "PYTHON3" and any(_asks_for_python2(f) for f in names.values() if f.suffix == ".py"):
        return "PYTHON"
    return best


def _asks_for_python2(path: Path) -> bool:
    with open(path, "rb") as file:
        first = file.readline(200)
    return first.startswith(b"#!") and b"python2" in first


def _included(package: Path, language: str) -> Iterator[tuple[str, Path]]:
    """Yield the name and the path of each file that is added to every submission in a language."""
    folders = [folder for folder in _inside(package / "include") if folder.is_dir()]
    for folder in sorted(folders, key=lambda f: f.name != "default"):  # a language's own files replace the default ones
        if folder.name == "default" or _INCLUDES.get(folder.name.lower()) == language:
            yield from ((str(f.relative_to(folder)), f) for f in sorted(folder.rglob("*")) if f.is_file())


def _main_of(language: str, text: Mapping[str, str]) -> str:
    """Return the name of the file that is run, or that has `main`."""
    sources = [name for name in text if LANGUAGES.get(Path(name).suffix) == language] or list(text)
    if language == "JAVA":
        sources = [name for name in sources if _JAVA_MAIN.search(text[name])] or sources
    for stem in _MAINS:
        for name in sources:
            if Path(name).stem == stem:
                return name
    if language == "PYTHON3":
        return next((name for name in sources if not _is_imported(name, text)), sources[0])
    return next((name for name in sources if "main(" in text[name]), sources[0])


def _is_imported(name: str, text: Mapping[str, str]) -> bool:
    """Return whether one of the other files imports a Python file."""
    imports = re.compile(rf"^\s*(?:from|import)\b.*\b{re.escape(Path(name).stem)}\b", re.MULTILINE)
    return any(imports.search(source) for other, source in text.items() if other != name)


# ---- files


def _inside(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if _counts(p)) if folder.is_dir() else []


def _counts(path: Path) -> bool:
    """Return whether a file or a folder can be part of a program."""
    is_hidden = path.name.startswith((".", "__pycache__")) or "__pycache__" in path.parts
    return not is_hidden and path.suffix not in _IGNORED and path.name not in (expectations.FILE, "Makefile")


def _read_sources(names: Mapping[str, Path], language: str) -> tuple[dict[str, str], str]:
    """Return the texts of files, and the encoding that gives their bytes again; empty where that is UTF-8."""
    contents = {name: _read_text(file) for name, file in names.items()}
    if all(isinstance(content, str) for content in contents.values()):
        return contents, ""
    text = {name: file.read_bytes().decode("latin-1") for name, file in names.items()}
    if language in _BYTE_LANGUAGES or (language == "PYTHON3" and any(map(_CODING.search, text.values()))):
        return text, "latin-1"
    return {name: content if isinstance(content, str) else text[name] for name, content in contents.items()}, ""


def _read_text(path: Path) -> Any:
    """Return a file as text with its line ends unchanged; as bytes if it isn't UTF-8."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data


def _read_yaml(path: Path, constants: Mapping[str, str] | None = None) -> dict[str, object]:
    """Return the mapping that a YAML file holds; an empty one where the file is empty.

    Raises:
        ValueError: it is no YAML, or holds something else.
    """
    import yaml

    try:
        data = path.read_bytes()
        value = yaml.safe_load(_filled(data.decode("utf-8"), constants) if constants else data)
    except (yaml.YAMLError, ValueError) as e:
        raise ValueError(f"{path.name} is no YAML: {' '.join(str(e).split())}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} holds a {type(value).__name__}, not a mapping")
    return value
