"""Extracts problem packages from ZIP files (`.zip`, `.kpp`), which may come from anyone.

Called by the thread that feeds a run; everything is written to a temporary folder, which is removed afterwards.

    A1  Nothing is written outside of that folder: names that lead out of it, and links, are refused.
    A2  At most `MAX_FILES` files of `MAX_BYTES` together are written, whatever the archive claims to hold.
    A3  An archive that breaks a rule, is damaged or encrypted is refused as a whole.
"""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIXES = (".zip", ".kpp")
MAX_FILES = 100_000
MAX_BYTES = 2 << 30
#: What file managers and tools for sharing add.
_ADDED = ("__MACOSX", ".DS_Store", ".git")
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError)


def may_hold(path: Path, file: str) -> bool:
    """Return whether an archive has a file of this name in any folder, or is damaged, so that reading it reports that.

    Example:
        >>> may_hold(Path("there is none.zip"), "problem.yaml")
        True
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.replace("\\", "/").rpartition("/")[2] == file for name in archive.namelist())
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


def _checked(infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Return the files of an archive by their names below the folder to extract to.

    The declared sizes may be relied on, since `zipfile` reads no more of a file than its declared size.

    Raises:
        ValueError: the archive breaks a rule.
    """
    size = sum(info.file_size for info in infos)
    if len(infos) > MAX_FILES or size > MAX_BYTES:
        raise ValueError(
            f"the ZIP file holds {len(infos):,} files of {size >> 20:,} MiB; at most {MAX_FILES:,} files of "
            f"{MAX_BYTES >> 20:,} MiB are extracted. Extract it yourself if you trust it, and read the folder"
        )
    found: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename.replace("\\", "/")  # as some Windows programs write it
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or (parts and ":" in parts[0]):
            raise ValueError(f"the ZIP file holds {info.filename[:80]!r}, which leads outside of its folder")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            what = "a link" if kind == stat.S_IFLNK else "a special file"
            raise ValueError(f"the ZIP file holds {what}, {info.filename[:80]!r}; pack the files themselves")
        if info.flag_bits & 1:
            raise ValueError("the ZIP file is encrypted")
        if not parts or name.endswith("/") or any(part in _ADDED for part in parts):
            continue
        if (path := "/".join(parts)) in found:
            raise ValueError(f"the ZIP file holds {path[:80]!r} twice")
        found[path] = info
    return found
