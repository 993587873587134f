"""The tests of a problem package, with the flags that their groups give to the checker.

Read by the thread that feeds a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbrun.judge.datasets.values import flags_of

#: Folder of a package -> the name of that set of tests in a row.
SETS = {"sample": "public_tests", "secret": "private_tests"}
_GROUP_FILES = ("test_group.yaml", "testdata.yaml")
_FLAGS = ("output_validator_args", "output_validator_flags")


def sets_of_tests(folder: Path, flags: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the sets of tests, in the order in which a judge runs them.

    Raises:
        ValueError: an input without an answer, or none at all.
    """
    data = folder / "data"
    inherited = _flags_of_group(data, [])
    out: dict[str, list[dict[str, Any]]] = {}
    for name, key in SETS.items():
        out[key] = []
        if not (data / name).is_dir():
            continue
        for path, own in _cases(data / name, inherited):
            about = _about(path)
            given = _given(about, path.with_suffix(".files"))
            answer = path.with_suffix(".ans")
            if not answer.is_file():
                raise ValueError(f"{path.relative_to(folder)} has no {answer.name} beside it")
            out[key].append({
                "input": read_text(path), "output": read_text(answer), "flags": [*flags, *_own_flags(about, own)],
                "name": path.relative_to(data).as_posix().removesuffix(".in"), **given,
            })  # fmt: skip
    if not any(out.values()):
        raise ValueError("data/ holds no *.in")
    return out


def read_text(path: Path) -> Any:
    """A file as text, line ends untouched; bytes where it is no text in UTF-8."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping; an empty one is an empty mapping.

    Raises:
        ValueError: it is no YAML, or holds something else.
    """
    import yaml

    try:
        value = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, ValueError) as e:
        raise ValueError(f"{path.name} is no YAML: {' '.join(str(e).split())}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} holds a {type(value).__name__}, not a mapping")
    return value


def _cases(folder: Path, inherited: list[str]) -> Iterator[tuple[Path, list[str]]]:
    """Inputs below a folder and the flags of their group, in order of their names."""
    own = _flags_of_group(folder, inherited)
    for path in sorted(folder.iterdir(), key=lambda p: p.name.removesuffix(".in")):
        if path.is_dir() and path.suffix != ".files" and not path.name.startswith("."):
            yield from _cases(path, own)
        elif path.suffix == ".in" and path.is_file():
            yield path, own


def _flags_of_group(folder: Path, inherited: list[str]) -> list[str]:
    for name in _GROUP_FILES:
        if (folder / name).is_file():
            return _own_flags(read_yaml(folder / name), inherited)
    return inherited


def _own_flags(about: Mapping[str, Any], inherited: list[str]) -> list[str]:
    for key in _FLAGS:
        if about.get(key) is not None:
            return flags_of(about[key])
    return inherited


def groups_of(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Return what the groups of tests say of themselves, by their paths below `data`."""
    data = folder / "data"
    inside = sorted(path for path in data.rglob("*") if path.is_dir())
    found: dict[str, Mapping[str, Any]] = {}
    for group in (data, *inside):
        for name in _GROUP_FILES:
            if (group / name).is_file():
                found["" if group == data else group.relative_to(data).as_posix()] = read_yaml(group / name)
                break
    return found


def _given(about: Mapping[str, Any], files: Path) -> dict[str, Any]:
    """The arguments and files that a program is given beside its input."""
    out: dict[str, Any] = {}
    if about.get("args"):
        out["arguments"] = flags_of(about["args"])
    if files.is_dir():
        names = (path for path in sorted(files.rglob("*")) if path.is_file())
        out["files"] = {path.relative_to(files).as_posix(): read_text(path) for path in names}
    return out


def _about(path: Path) -> Mapping[str, Any]:
    """What stands beside one input."""
    file = path.with_suffix(".yaml")
    return read_yaml(file) if file.is_file() else {}
