"""The wheel holds the package with its demo problems and its panel, and nothing else."""

from __future__ import annotations

import email
import email.message
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: All names that are allowed at the top of the repository, apart from those that begin with a dot.
TOP = {"pyproject.toml", "nbrun", "notebooks", "tests", "README.md", "LICENSE"}
#: Files of the package that aren't Python.
DATA = {
    "py.typed", "judge/demo/problems.jsonl", "judge/demo/old_results.zip", "panel/view.css",
    *(f"panel/{name}.js" for name in ("controls", "elements", "list", "sample", "samples", "sections", "store")),
    "panel/view.js",
}  # fmt: skip


def tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.split("\0") if name]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build the wheel with the back end that pip would use."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(wheel.read(name))


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert all(name.startswith("nbrun/") for name in names)
    others = {n.removeprefix("nbrun/") for n in names if not n.endswith(".py")}
    assert others == DATA
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "nbrun").rglob("*.py")}
    assert {n for n in names if n.endswith(".py")} == modules
    about = {name.partition(".dist-info/")[2] for name in wheel.namelist() if ".dist-info/" in name}
    assert about == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


def test_the_source_distribution_makes_the_same_wheel(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    hatch = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path), "-t"]
    subprocess.run([*hatch, "sdist"], cwd=ROOT, check=True, capture_output=True, timeout=120)
    (path,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        # Debian 12's Python has no filters yet.
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    unpacked = tmp_path / path.name.removesuffix(".tar.gz")
    assert {"README.md", "LICENSE", "pyproject.toml", "nbrun", "tests"} <= {entry.name for entry in unpacked.iterdir()}
    subprocess.run([*hatch, "wheel"], cwd=unpacked, check=True, capture_output=True, timeout=120)
    (again,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(again) as rebuilt:
        assert {i.filename: i.CRC for i in rebuilt.infolist()} == {i.filename: i.CRC for i in wheel.infolist()}


def test_the_data_in_the_wheel_is_the_repository_s(wheel: zipfile.ZipFile) -> None:
    for name in DATA:
        assert wheel.read(f"nbrun/{name}") == (ROOT / "nbrun" / name).read_bytes()
    (about,) = {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    assert wheel.read(f"{about}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    entry = wheel.read(f"{about}/entry_points.txt").decode()
    assert entry.split() == ["[console_scripts]", "nbrun", "=", "nbrun.cli:main"]


def test_the_metadata_names_what_each_extra_needs(metadata: email.message.Message) -> None:
    requires = [text.replace('"', "'") for text in metadata.get_all("Requires-Dist", [])]
    base = {text.partition(">")[0] for text in requires if "extra ==" not in text}
    assert base == {"anywidget", "ipywidgets", "orjson", "pandas", "pyyaml", "tqdm"}
    extras = {
        extra: {r.partition(">")[0] for r in requires if f"extra == '{extra}'" in r}
        for extra in metadata.get_all("Provides-Extra", [])
    }
    assert extras["judge"] == set()
    assert extras["plots"] == {"matplotlib"}
    assert extras["executors"] == {"cloudpickle"}
    assert extras["dask"] == {"cloudpickle", "distributed"}
    assert {"judge", "plots", "dask", "all", "test"} <= set(extras)
    assert metadata["Requires-Python"] == ">=3.11"
    versions = {c.rpartition(":: ")[2] for c in metadata.get_all("Classifier", []) if "Python :: 3." in c}
    assert versions == {"3.11", "3.12", "3.13", "3.14"}
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Author"] == "The nbrun authors"
    assert metadata["Summary"]
    assert metadata.get_payload(decode=True) == (ROOT / "README.md").read_bytes()


def test_all_includes_every_extra_but_those_for_developers() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (line,) = extras["all"]
    assert set(line.removeprefix("nbrun[").removesuffix("]").split(",")) == set(extras) - {
        "all",
        "benchmarks",
        "test",
        "test-all",
    }


def test_an_installed_wheel_runs_without_the_repository(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    code = (
        "import nbrun, nbrun.panel, nbrun.judge as judge; print(nbrun.__file__); problems = judge.demo_problems();"
        "print(len(problems)); assert len(problems) >= 12"
    )
    ran = subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"],
                         cwd=tmp_path, capture_output=True, text=True, check=False)  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(str(tmp_path / "nbrun"))


def test_the_top_of_the_repository_holds_only_these_names() -> None:
    tops = {name.partition("/")[0] for name in tracked()}
    assert {name for name in tops if not name.startswith(".")} <= TOP
    assert sum((ROOT / name).stat().st_size for name in tracked() if name.startswith("notebooks/")) < 300_000
