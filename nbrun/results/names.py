"""A sample id -> the name of its file. Pure functions.

A name is readable, holds no spaces, quotes or control characters, has at most 128 bytes, and differs from every other
id's name even where the file system ignores case or normalises Unicode: an id that is not already such a name gets
`~` and a digest of itself appended, and no id that holds a `~` is taken as it is.
"""

from __future__ import annotations

import os
import re
import unicodedata
from typing import TypeGuard

from nbrun.canonical import blake2b

SUFFIX = ".json"
#: Encrypted disks allow 143 bytes, and a file has longer names than its own meanwhile: see `derived`.
MAX_BYTES, MAX_DERIVED_BYTES = 128, 139
#: What no file system has more of in a name.
MOST_BYTES = 255
_PLAIN = re.compile(r"[a-z0-9_][a-z0-9._-]*", re.ASCII)
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.ASCII)
_DIGEST_CHARS = 13  # 65 bits


def is_sample_file_name(name: object) -> TypeGuard[str]:
    """Return whether a name that was read from disk can be that of a sample's file: a name and no path.

    Example:
        >>> [is_sample_file_name(n) for n in ("p1.json", "../p1.json", "/p1.json", "a\\0.json", "lock", None)]
        [True, False, False, False, False, False]
    """
    return (
        isinstance(name, str)
        and name.endswith(SUFFIX)
        and "/" not in name
        and "\0" not in name
        and len(name.encode("utf-8", "surrogatepass")) <= MOST_BYTES
    )


def name_of(sample_id: str) -> str:
    """Return the file name for an id.

    Example:
        >>> name_of("p1"), name_of("Codeforces/1/A"), name_of("中文 题")
        ('p1.json', 'Codeforces_1_A~226htjl5nv45e.json', '中文_题~w46glw5z35hyc.json')
    """
    if (
        _PLAIN.fullmatch(sample_id)
        and not _RESERVED.fullmatch(sample_id)
        and sample_id[-1] != "."
        and len(sample_id) + len(SUFFIX) <= MAX_BYTES
    ):
        return sample_id + SUFFIX
    mark = _mark(sample_id.encode("utf-8", "surrogatepass"))
    room = MAX_BYTES - len(mark) - len(SUFFIX)
    readable = "".join(c if c.isalnum() or c in "-_." else "_" for c in unicodedata.normalize("NFC", sample_id))
    readable = readable.lstrip(".-").encode("utf-8", "ignore")[: room - 1].decode("utf-8", "ignore")
    if not readable or _RESERVED.fullmatch(readable.lower()):  # Windows reserves con.txt as well as con
        readable = "_" + readable
    return readable + mark + SUFFIX


def temporary(name: str) -> str:
    """Return the name of a file in `.nbrun/tmp/` while it is being written.

    Example:
        >>> temporary("p1.json")
        'p1.json.tmp'
    """
    return derived(name, ".tmp")


def derived(name: str, suffix: str) -> str:
    """Return a file's name with a suffix; the name may be as long as the disk allows (the older program's are)."""
    data = os.fsencode(name)
    room = MAX_DERIVED_BYTES - len(suffix)
    if len(data) <= room:
        return name + suffix
    mark = _mark(data)
    return data[: room - len(mark)].decode("utf-8", "ignore") + mark + suffix


def _mark(data: bytes) -> str:
    """Return what distinguishes a shortened or changed name from others."""
    from base64 import b32encode  # few names need it

    return "~" + b32encode(blake2b(data, digest_size=9).digest()).decode()[:_DIGEST_CHARS].lower()
