"""Reads a folder that is a Kattis or ICPC problem package as a problem row.

Called by the thread that feeds a run. The layout is that of
https://www.kattis.com/problem-package-format (legacy and 2023-07):

    problem.yaml                      name, type, limits, validation
    data/sample, data/secret          *.in and *.ans, in groups; testdata.yaml or test_group.yaml hold flags
    submissions/accepted, …           submissions, by the verdict that they should get
    output_validators/, output_validator/
    include/LANGUAGE/                 files that are added to every submission in this language

A problem that can't be judged here (multi-pass problems, graders of a package's own) has the reason under
`not_supported`: its tasks end as errors that say so, and count in no rate.

Packages are also read from ZIP files, which may come from anyone. Their content is extracted to a temporary folder:

    A1  Nothing is written outside of that folder: names that lead out of it, and links, are refused.
    A2  At most `TUNING.package_max_files` files of `TUNING.package_max_bytes` together are written, whatever the
        archive claims to hold.
    A3  An archive that breaks a rule, is damaged or encrypted is refused as a whole.
"""

from __future__ import annotations

import ast
import configparser
import re
import shutil
import stat
import tempfile
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from nbrun.judge import grading
from nbrun.judge.grading import (
    PARTIALLY_ACCEPTED,
    VERDICTS_OF_FOLDERS,
    Hints,
    expectations_of,
    flat,
    hints_of,
    rules_of,
)
from nbrun.judge.languages import language_name
from nbrun.judge.problems.values import flags_of, given
from nbrun.tuning import TUNING
from nbrun.verdicts import Verdict, mapping

MARK = "problem.yaml"
#: Suffixes of archives that may hold packages.
ARCHIVES = (".zip", ".kpp")
#: What file managers and tools for sharing add to archives.
_ADDED = {"__MACOSX", ".DS_Store", ".git"}
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError)
#: The format's limits for problems that name none.
MEMORY_LIMIT_MB, OUTPUT_LIMIT_MB = 2048.0, 8.0
#: Folder of a package's data -> the set of tests in a row.
_SETS = {"sample": "public_tests", "secret": "private_tests"}
_GROUP_FILES = ("test_group.yaml", "testdata.yaml")
_FLAGS = ("output_validator_args", "output_validator_flags")
_SUPPORTED_TYPES = ("pass-fail", "scoring", "interactive")
_REFUSED_TYPES = {kind: f"a {kind} problem" for kind in ("multi-pass", "submit-answer")}
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
#: The groups of a row's solutions: right and wrong ones.
_GROUPS = ("solution", "incorrect_solution")
_MAINS = ("main", "__main__", "Main")
_JAVA_MAIN = re.compile(r"\bstatic\s+(?:\w+\s+)*void\s+main\s*\(")
#: Languages whose compilers and interpreters read a source's bytes as they are; the others expect UTF-8.
_BYTE_LANGUAGES = ("C", "CPP", "PYTHON", "PASCAL")
#: An encoding declaration, which Python looks for in the first two lines.
_CODING = re.compile(r"\A(?:[^\n]*\n)?[ \t\f]*#[^\n]*coding[:=]")
#: A first line that names the interpreter.
_PYTHON_NAMED = re.compile(rb"#!.*?python([23])")
#: A statement of Python 2, unless it is inside a text; and signs of a source that runs in both versions.
_PRINT_STATEMENT = re.compile(rb"(?:^|[:;])[ \t]*print[ \t]+[^\s(=]", re.MULTILINE)
_FOR_BOTH = re.compile(rb"NameError|raw_input\s*=[^=]|\bversion(?:_info)?\b|\bdef raw_input\b")
#: The language of a program that has a script `build`, `run` or both; see `nbrun.judge.languages`.
SCRIPT = "SCRIPT"
_NO_HINTS = Hints()
_CONSTANT = re.compile(r"\{\{([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?)\}\}", re.ASCII)


def find_packages(folder: Path, with_archives: bool = False) -> Iterator[Path]:
    """Yield the packages in a folder, in order of their names: the folder itself, or those inside it at any depth.

    Args:
        with_archives: whether archives count too, if they hold a package or can't be opened.
    """
    if (folder / MARK).is_file():
        yield folder
        return
    for inside in _inside(folder, _is_shown):
        if inside.is_dir():
            yield from find_packages(inside, with_archives)
        elif with_archives and _may_hold_package(inside):
            yield inside


def read_package(folder: Path, name: str) -> dict[str, object]:
    """Return the row of one package.

    Args:
        name: the row's id.

    Raises:
        ValueError: something in the package can't be read; the message names the file.
    """
    return _Package(folder).row(name)


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
    checks: Sequence[grading.Check]
    sets_time_limit: bool


class _Package:
    """A package's folder, its problem.yaml, and the constants that are named in its other files.

    Attributes:
        constants: by their names as files have them: `{{name}}`, or `{{name.variant}}`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self.about: dict[str, Any] = _read_yaml(folder / MARK)
        version = self.about.get("problem_format_version") or "legacy"
        self.is_legacy = version == "legacy" or "validation" in self.about
        self.validation = str(self.about.get("validation") or "").split()
        types: Any = self.about.get("type") or "pass-fail"
        if isinstance(types, str):
            types = types.split()
        self.types = [*map(str, types), *filter(None, map(_TYPES_OF_VALIDATION.get, self.validation))]
        self.constants = self._read_constants()

    def _read_constants(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, value in self._mapping("constants").items():
            variants = value if isinstance(value, Mapping) else {"value": value}
            found[str(name)] = str(variants.get("value", ""))
            found |= {f"{name}.{variant}": str(text) for variant, text in variants.items()}
        return found

    def row(self, name: str) -> dict[str, object]:
        """Return the row of the package, with this id."""
        row: dict[str, Any] = {"id": name, **self._limits()}
        reason = self._refusal()
        if "scoring" in self.types and reason is None:
            row["grading"], reason = rules_of(self._groups(), self.is_legacy)
        sets = {} if reason else self._sets_of_tests()
        self._add_submissions(row, [test["name"] for test in chain(*sets.values())])
        if "interactive" in self.types:
            row["interactive"] = True
        if reason is not None:
            return row | {"tests": [], "not_supported": reason}
        return row | sets | {"checker": self._checker()}

    def _add_submissions(self, row: dict[str, Any], tests: Sequence[str]) -> None:
        """Add the groups of solutions to a row, and to its time limit those that don't count for it."""
        submissions = list(self._submissions(tests))
        row |= _groups_of(submissions)
        left_out = [found.name for found in submissions if not found.sets_time_limit]
        if left_out and row["time_limit_from"] is not None:
            row["time_limit_from"]["left_out"] = left_out

    # ---- problem.yaml

    def _refusal(self) -> str | None:
        """Return why the problem can't be judged here; None if it can."""
        for kind in self.types:
            if kind not in _SUPPORTED_TYPES:
                return _REFUSED_TYPES.get(kind, f"a problem of the unknown type {kind!r}")
        if refusal := self._refusal_of_validators():
            return refusal
        if "scoring" in self.types and self._has_grader():
            return "a scoring problem with a grader of its own"
        return "a problem whose secret tests its generators have not made yet" if self._awaits_tests() else None

    def _refusal_of_validators(self) -> str | None:
        is_interactive = "interactive" in self.types
        count = len(list(self._validators()))
        if not count and (is_interactive or "custom" in self.validation):
            return "its output validator is missing"
        return "an interactive problem with several validators" if is_interactive and count > 1 else None

    def _has_grader(self) -> bool:
        wanted = mapping(self.about.get("grading")).get("custom_scoring")
        return bool(wanted) and (self.folder / "graders").is_dir()

    def _awaits_tests(self) -> bool:
        """Return whether the package holds programs that make secret tests, but none of these tests."""
        if any((self.data / "secret").rglob("*.in")):
            return False
        return any(_inside(self.folder / "generators")) or any(path.suffix in LANGUAGES for path in _inside(self.data))

    def _limits(self) -> dict[str, object]:
        """Return the limits of problem.yaml, or of the files that some judging systems add to a package."""
        limits = self._mapping("limits")
        time_s = limits.get("time_limit")
        for name in (".timelimit", "domjudge-problem.ini"):
            if time_s is None:
                time_s = _time_limit_in(self.folder / name)
        return {
            "time_limit_s": time_s,
            "time_limit_from": self._time_limit_rule(limits) if time_s is None else None,
            "memory_limit_mb": limits.get("memory") or MEMORY_LIMIT_MB,
            "output_limit_mb": limits.get("output") or OUTPUT_LIMIT_MB,
        }

    def _time_limit_rule(self, limits: Mapping[str, Any]) -> dict[str, Any]:
        """Return how the time limit follows from the slowest accepted submission."""
        if self.is_legacy:
            rule = {"multiplier": limits.get("time_multiplier") or 5, "resolution": 1}
        else:
            multiplier = mapping(limits.get("time_multipliers")).get("ac_to_time_limit")
            rule = {"multiplier": multiplier or 2, "resolution": limits.get("time_resolution") or 1}
        return {name: _above_0(value, name) for name, value in rule.items()}

    def _mapping(self, key: str) -> Mapping[str, Any]:
        value = self.about.get(key) or {}
        if not isinstance(value, Mapping):
            raise ValueError(f"{MARK}: {key} is a {type(value).__name__}, not a mapping")
        return value

    def _filled(self, text: str) -> str:
        """Return a text with constants in the places of their names; unknown names stay."""
        constants = self.constants
        return _CONSTANT.sub(lambda match: constants.get(match[1], match[0]), text) if constants else text

    def _with_constants(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return the item of a program with constants filled in."""
        filled = {**item, "solution": self._filled(item["solution"])}
        if "files" in item:
            filled["files"] = {name: self._filled(text) for name, text in item["files"].items()}
        return filled

    # ---- output validators

    def _checker(self) -> dict[str, object]:
        """Return the package's own output validators, or the comparison by flags; the tests hold the flags."""
        has_own = not self.is_legacy or "custom" in self.validation
        programs = [self._with_constants(self._validator_item(path)) for path in self._validators() if has_own]
        return {"type": "validator", "programs": programs} if programs else {"type": "kattis"}

    def _validators(self) -> Iterator[Path]:
        """Yield the programs that validate output, each of which is a file or a folder."""
        for name in ("output_validator", "output_validators"):
            yield from _validators_in(self.folder / name)
        yield from filter(Path.is_file, sorted(self.folder.glob("output_validator.*")))

    def _validator_item(self, path: Path) -> dict[str, Any]:
        """Return the item of an output validator, with the headers beside it and those that the package shares."""
        item = self._program_item(path) | {"name": path.relative_to(self.folder).as_posix()}
        if item["language"] not in ("C", "CPP"):
            return item
        main = item.get("file") or _name_of_only_file(path)
        headers = self._headers(path.parent, {main, *item.get("files", ())})
        if not headers:
            return item
        found, _ = _read_sources(headers, item["language"])
        files = {**found, **item.get("files", {})}
        if '"../' in "\n".join((item["solution"], *files.values())):
            # Such an include finds the headers from a folder one level deeper.
            main, files = f"source/{main}", {**found, **{f"source/{name}": text for name, text in files.items()}}
        return item | {"file": main, "files": files}

    def _headers(self, beside: Path, but: Set[str]) -> dict[str, Path]:
        """Return the headers that an output validator in a folder may include, other than its own files."""
        places = (self.folder / "input_validators", self.folder, self.folder / "include", beside)
        found = {file.name: file for file in chain(*map(_inside, places)) if file.suffix in _HEADERS}
        return {name: found[name] for name in sorted(found.keys() - but)}

    # ---- tests

    def _sets_of_tests(self) -> dict[str, list[dict[str, Any]]]:
        """Return the sets of tests, each in the order in which a judge runs them.

        Validator flags of all tests come first, then those of groups and tests.

        Raises:
            ValueError: an input has no answer, or there is no test at all.
        """
        root = self._inherited(self.data, {})
        sets = {
            key: [self._test(path, group) for path, group in self._inputs(self.data / name, root)]
            for name, key in _SETS.items()
        }
        if not any(sets.values()):
            raise ValueError("data/ holds no *.in")
        return sets

    def _test(self, path: Path, group: Mapping[str, object]) -> dict[str, Any]:
        """Return the test of an input, in a group with these arguments and flags."""
        about = {**group, **_read_yaml(path.with_suffix(".yaml"))}
        answer, files = path.with_suffix(".ans"), path.with_suffix(".files")
        if not answer.is_file():
            raise ValueError(f"{path.relative_to(self.folder)} has no {answer.name} beside it")
        flags = next(iter(given(about, _FLAGS).values()), None)
        test: dict[str, Any] = {
            "input": _read_text(path),
            "output": _read_text(answer),
            "flags": [*flags_of(self.about.get("validator_flags")), *flags_of(flags)],
            "name": path.relative_to(self.data).as_posix().removesuffix(".in"),
        }
        if about.get("args"):
            test["arguments"] = flags_of(about["args"])
        if files.is_dir():
            test["files"] = {name: _read_text(file) for name, file in _files_in(files).items()}
        return test

    def _inputs(self, folder: Path, inherited: Mapping[str, object]) -> Iterator[tuple[Path, Mapping[str, object]]]:
        """Yield the inputs in a folder and in the groups below it, in order of names, with what their group says."""
        if not folder.is_dir():
            return
        about = self._inherited(folder, inherited)
        for path in sorted(folder.iterdir(), key=lambda p: p.name.removesuffix(".in")):
            if _is_group(path):
                yield from self._inputs(path, about)
            elif path.suffix == ".in" and path.is_file():
                yield path, about

    def _inherited(self, folder: Path, above: Mapping[str, object]) -> Mapping[str, object]:
        """Return the arguments and flags of a group: its own, or those of the group that holds it."""
        own = given(self._group_file(folder) or {}, ("args", *_FLAGS))
        if not own.keys().isdisjoint(_FLAGS):
            above = {key: value for key, value in above.items() if key not in _FLAGS}
        return {**above, **own}

    def _groups(self) -> dict[str, Mapping[str, object]]:
        """Return what the files of groups of tests hold, by the groups' paths below `data`."""
        found: dict[str, Mapping[str, object]] = {}
        for folder in (self.data, *sorted(filter(Path.is_dir, self.data.rglob("*")))):
            if (about := self._group_file(folder)) is not None:
                found[folder.as_posix()[len(self.data.as_posix()) + 1 :]] = about
        return found

    def _group_file(self, folder: Path) -> dict[str, object] | None:
        paths = (folder / name for name in _GROUP_FILES)
        return next((_read_yaml(path, self._filled) for path in paths if path.is_file()), None)

    # ---- submissions

    def _submissions(self, tests: Sequence[str]) -> Iterator[_Submission]:
        rules = grading.check_rules(_read_yaml(self.folder / "submissions" / grading.FILE))
        for folder in filter(Path.is_dir, _inside(self.folder / "submissions")):
            for path in _inside(folder):
                yield self._submission(path, rules, tests)

    def _submission(self, path: Path, rules: grading.Rules, tests: Sequence[str]) -> _Submission:
        folder = path.parent.name
        name = f"{folder}/{path.name}"
        hints = hints_of(rules, name)
        item = self._with_constants(self._program_item(path, hints)) | {"submission": name}
        default = self._default_verdicts(item, folder)
        said = expectations_of(rules, name, tests, default)
        verdicts = said.verdicts or default
        is_right = verdicts == [Verdict.ACCEPTED] if said.verdicts else folder == "accepted"
        if not verdicts:
            item["not_supported"] = f"submissions in {folder}/ have no verdict of their own in this judge"
        due = verdicts[0] if len(verdicts) == 1 else verdicts
        judged = None if "not_supported" in item else due
        return _Submission(name, item, _GROUPS[not is_right], judged, said.checks, hints.sets_time_limit)

    def _default_verdicts(self, item: Mapping[str, Any], folder: str) -> list[str]:
        """Return the verdicts that a source's own tag expects, or else those of its folder."""
        expected = {**VERDICTS_OF_FOLDERS, **(PARTIALLY_ACCEPTED if "scoring" in self.types else {})}
        tag = _TAG.search("\n".join([item["solution"], *item.get("files", {}).values()]))
        words = tag[1].split(",") if tag else ()
        folders = [_TAGS.get(word.strip().upper().replace("-", "_"), "") for word in words]
        return flat(expected.get(tagged, ()) for tagged in folders) or flat([expected.get(folder, ())])

    # ---- programs

    def _program_item(self, path: Path, hints: Hints = _NO_HINTS) -> dict[str, Any]:
        """Return the item of a program that is a file or a folder."""
        names = {path.name: path} if path.is_file() else _files_in(path, _counts)
        script = next(filter(names.__contains__, ("build", "run")), None)
        if script:
            return _item_of(names, SCRIPT, script)
        language = _language_of(names, hints)
        if language is None:
            reason = f"{path.name}: it holds no source"
            return {"language": "UNKNOWN_LANGUAGE", "solution": "", "not_supported": reason}
        # The format has included files replace a submission's own.
        return _item_of(names | self._included(language), language, hints.entry)

    def _included(self, language: str) -> dict[str, Path]:
        """Return the files that are added to every submission in a language."""
        shared: dict[str, Path] = {}
        own: dict[str, Path] = {}
        for folder in filter(Path.is_dir, _inside(self.folder / "include")):
            if folder.name == "default":
                shared = _files_in(folder)
            elif _INCLUDES.get(folder.name.lower()) == language:
                own |= _files_in(folder)
        return shared | own  # a language's own files replace the default ones


def _groups_of(submissions: Iterable[_Submission]) -> dict[str, object]:
    """Return the groups of a row, `expected_verdicts`, and `expectations` where there are some."""
    items: dict[str, list[object]] = {f"{name}s": [] for name in _GROUPS}
    verdicts: dict[str, list[object]] = {name: [] for name in _GROUPS}
    expectations: dict[str, object] = {}
    for found in submissions:
        items[f"{found.group}s"].append(found.item)
        verdicts[found.group].append(found.expected)
        if found.checks:
            expectations[found.name] = [check.record() for check in found.checks]
    return {**items, "expected_verdicts": verdicts, **({"expectations": expectations} if expectations else {})}


def _above_0(value: Any, name: str) -> float:
    if not isinstance(value, (int, float)) or not value > 0:
        raise ValueError(f"{MARK}: the {name} of the time limit is {value!r}, not a number above 0")
    return float(value)


def _time_limit_in(path: Path) -> str | None:
    """Return the limit in a file, as text; of an INI file without sections, its `timelimit`. None if it has none."""
    if not path.is_file():
        return None
    if path.suffix != ".ini":
        return str(_read_text(path)).strip()
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string("[problem]\n" + _read_text(path))
    except configparser.Error as e:
        raise ValueError(f"{path.name}: {e}") from None
    value = parser.get("problem", "timelimit", fallback=None)
    return None if value is None else value.strip("'\" ")


def _is_group(path: Path) -> bool:
    """Return whether a path below `data` is a folder with tests, not one of files for a test."""
    return path.is_dir() and path.suffix != ".files" and _is_shown(path)


def _validators_in(place: Path) -> list[Path]:
    """Return the programs in a folder, or the folder itself if its files are one program."""
    inside = _inside(place, lambda path: not path.name.startswith((".", "_")))
    if inside and (place.name == "output_validator" or not _are_programs(inside)):
        return [place]
    return [path for path in inside if path.is_dir() or path.suffix in LANGUAGES]


def _are_programs(inside: Sequence[Path]) -> bool:
    """Return whether these are programs of their own, not the files of one: folders, or sources without headers."""
    if {"build", "run"} & {path.name for path in inside}:
        return False
    return any(path.is_dir() for path in inside) or not any(path.suffix in (".h", ".hpp") for path in inside)


def _name_of_only_file(path: Path) -> str:
    """Return the name of a program's file; of a file in a subfolder, the usual one."""
    return next((file.name for file in (path, *_inside(path)) if file.is_file()), "main.cpp")


def _item_of(names: Mapping[str, Path], language: str, entry: str | None) -> dict[str, Any]:
    """Return the item of a program with these files.

    It has `language`, `solution` (the main file), `file` and `files` if there are more files, and `encoding` where
    its bytes are no UTF-8 and must stay as they are.

    Args:
        entry: the main file, if the program has it.
    """
    text, encoding = _read_sources(names, language)
    main = entry if entry in text else _main_of(language, text)
    item: dict[str, object] = {"language": language, "solution": text.pop(main)}
    if text or language == SCRIPT:
        item |= {"file": main, "files": text}
    if encoding:
        item["encoding"] = encoding
    return item


def _language_of(names: Mapping[str, Path], hints: Hints) -> str | None:
    """Return the language that submissions.yaml names, or that of most files; None where no file is a source."""
    if named := language_name(hints.language):
        return named.language
    suffixes = [path.suffix for path in names.values() if path.suffix not in (*_HEADERS, "")]
    counts = Counter(LANGUAGES.get(suffix, suffix[1:].upper()) for suffix in suffixes)
    best = max(counts, key=counts.__getitem__, default=None)
    is_python2 = best == "PYTHON3" and any(map(_is_python2, names.values()))
    return "PYTHON" if is_python2 else best


def _is_python2(path: Path) -> bool:
    """Return whether a file names Python 2 in its first line, or can only be Python 2, as in packages before 2020."""
    if path.suffix != ".py":
        return False
    source = path.read_bytes()
    if named := _PYTHON_NAMED.match(source):
        return named[1] == b"2"
    if _PRINT_STATEMENT.search(source):
        return _has_print_statement(source)
    return b"raw_input(" in source and not _FOR_BOTH.search(source)


def _has_print_statement(source: bytes) -> bool:
    """Return whether Python 3 refuses a source because of a `print` without parentheses."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except SyntaxError as e:
        return "Missing parentheses in call to 'print'" in str(e)
    except ValueError:  # it holds a null byte
        pass
    return False


def _main_of(language: str, text: Mapping[str, str]) -> str:
    """Return the name of the file that is run, or that has `main`: by the files' names, then by what they hold."""

    def rank(name: str) -> tuple[bool, bool, int]:
        is_other = LANGUAGES.get(Path(name).suffix) != language
        lacks_main = language == "JAVA" and not _JAVA_MAIN.search(text[name])
        return is_other, lacks_main, _main_rank(name, language, text)

    return min(text, key=rank)


def _main_rank(name: str, language: str, text: Mapping[str, str]) -> int:
    """Return how unlikely a file is the main one by its name, or else by what the files hold."""
    stem = Path(name).stem
    if stem in _MAINS:
        return _MAINS.index(stem)
    if language != "PYTHON3":
        return len(_MAINS) + ("main(" not in text[name])
    imports = re.compile(rf"^\s*(?:from|import)\b.*\b{re.escape(stem)}\b", re.MULTILINE)
    others = "\n".join(text[other] for other in text if other != name)
    return len(_MAINS) + bool(imports.search(others))  # no other file imports the main one


# ---- archives


def _may_hold_package(path: Path) -> bool:
    """Return whether a file is an archive with a problem.yaml in any folder, or is damaged: reading it reports that."""
    if path.suffix.lower() not in ARCHIVES:
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(_path_of(info).name == MARK for info in archive.infolist())
    except _DAMAGED:
        return True


@contextmanager
def extracted(path: Path) -> Iterator[Path]:
    """Yield a temporary folder with the content of a ZIP file.

    Raises:
        ValueError: the file can't be read, or breaks a rule above.
    """
    with tempfile.TemporaryDirectory(prefix="nbrun-package-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        try:
            with zipfile.ZipFile(path) as archive:
                for name, info in _checked(archive.infolist()).items():
                    target = folder / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(info) as source, open(target, "xb") as out:
                        shutil.copyfileobj(source, out, 1 << 20)
        except _DAMAGED as e:
            raise ValueError(f"the ZIP file can't be read: {e}") from None
        yield folder


def _path_of(info: zipfile.ZipInfo) -> PurePosixPath:
    return PurePosixPath(info.filename.replace("\\", "/"))  # as some Windows programs write it


def _checked(infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Return the files of an archive by their names below the folder to extract to.

    The declared sizes may be relied on, since `zipfile` reads no more of a file than its declared size.

    Raises:
        ValueError: the archive breaks a rule.
    """
    _check_size(infos)
    found: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        path = _path_of(info)
        if why := _fault_of(info, path):
            raise ValueError(f"the ZIP file {why}")
        if _is_left_out(info, path):
            continue
        if str(path) in found:
            raise ValueError(f"the ZIP file holds {str(path)[:80]!r} twice")
        found[str(path)] = info
    return found


def _is_left_out(info: zipfile.ZipInfo, path: PurePosixPath) -> bool:
    """Return whether a member of an archive is a folder, or what file managers and tools add."""
    return info.filename.endswith(("/", "\\")) or not path.parts or not _ADDED.isdisjoint(path.parts)


def _check_size(infos: Sequence[zipfile.ZipInfo]) -> None:
    """Raise ValueError if an archive claims to hold too much (A2)."""
    size = sum(info.file_size for info in infos)
    most, most_bytes = TUNING.package_max_files, TUNING.package_max_bytes
    if len(infos) > most or size > most_bytes:
        raise ValueError(
            f"the ZIP file holds {len(infos):,} files of {size >> 20:,} MiB; at most {most:,} files of "
            f"{most_bytes >> 20:,} MiB are extracted. Extract it yourself if you trust it, and read the folder"
        )


def _fault_of(info: zipfile.ZipInfo, path: PurePosixPath) -> str:
    """Return why a member of an archive isn't extracted; empty if it is."""
    shown = repr(info.filename[:80])
    if path.is_absolute() or ".." in path.parts or ":" in "".join(path.parts[:1]):
        return f"holds {shown}, which leads outside of its folder"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return f"holds {'a link' if kind == stat.S_IFLNK else 'a special file'}, {shown}; pack the files themselves"
    return "is encrypted" if info.flag_bits & 1 else ""


# ---- files


def _inside(folder: Path, are_meant: Callable[[Path], bool] | None = None) -> list[Path]:
    return sorted(filter(are_meant or _counts, folder.iterdir())) if folder.is_dir() else []


def _is_shown(path: Path) -> bool:
    return not path.name.startswith(".")


def _files_in(folder: Path, are_meant: Callable[[Path], bool] = Path.is_file) -> dict[str, Path]:
    """Return the files in a folder and its subfolders by their paths in it, in order."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and are_meant(path)]
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _counts(path: Path) -> bool:
    """Return whether a file or a folder can be part of a program."""
    is_hidden = path.name.startswith((".", "__pycache__")) or "__pycache__" in path.parts
    return not is_hidden and path.suffix not in _IGNORED and path.name not in (grading.FILE, "Makefile")


def _read_sources(names: Mapping[str, Path], language: str) -> tuple[dict[str, str], str]:
    """Return the texts of files, and the encoding that gives their bytes again; empty where that is UTF-8."""
    contents = {name: _read_text(file) for name, file in names.items()}
    others = {name: data.decode("latin-1") for name, data in contents.items() if isinstance(data, bytes)}
    if not others:
        return contents, ""
    text = {name: file.read_bytes().decode("latin-1") for name, file in names.items()}
    return (text, "latin-1") if _needs_its_bytes(language, text.values()) else (contents | others, "")


def _needs_its_bytes(language: str, sources: Iterable[str]) -> bool:
    """Return whether bytes of sources must stay as they are: the language reads any, or a source declares them."""
    is_declared = language == "PYTHON3" and any(map(_CODING.search, sources))
    return is_declared or language in _BYTE_LANGUAGES


def _read_text(path: Path) -> Any:
    """Return a file as text with its line ends unchanged; as bytes if it isn't UTF-8."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data


def _read_yaml(path: Path, filled: Callable[[str], str] = str) -> dict[str, object]:
    """Return the mapping that a YAML file holds; an empty one where the file is empty, or there is none.

    Args:
        filled: fills constants into the text.

    Raises:
        ValueError: it is no YAML, or holds something else.
    """
    import yaml

    if not path.is_file():
        return {}
    try:
        value = yaml.safe_load(filled(path.read_bytes().decode("utf-8-sig")))
    except (yaml.YAMLError, ValueError) as e:
        raise ValueError(f"{path.name} is no YAML: {' '.join(str(e).split())}") from None
    if not isinstance(value, dict | None):
        raise ValueError(f"{path.name} holds a {type(value).__name__}, not a mapping")
    return value or {}
