"""A sample id -> the name of its file. Pure functions.

A name is readable, holds no spaces, quotes or control characters, has at most 200 bytes, and differs from every other
id's name even where the file system ignores case or normalises Unicode: an id that is not already such a name gets
`~` and a digest of itself appended, and no id that holds a `~` is taken as it is.
"""

from __future__ import annotations

import re
import unicodedata
from base64 import b32encode
from hashlib import blake2b

SUFFIX = ".json"
MAX_BYTES = 200
_PLAIN = re.compile(r"[a-z0-9_][a-z0-9._-]*", re.ASCII)
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.ASCII)
_DIGEST_CHARS = 13  # 65 bits


def name_of(sample_id: str) -> str:
    """The file name for an id.

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
    mark = (
        "~"
        + b32encode(blake2b(sample_id.encode("utf-8", "surrogatepass"), digest_size=9).digest())
        .decode()[:_DIGEST_CHARS]
        .lower()
    )
    room = MAX_BYTES - len(mark) - len(SUFFIX)
    readable = "".join(c if c.isalnum() or c in "-_." else "_" for c in unicodedata.normalize("NFC", sample_id))
    readable = readable.lstrip(".-").encode("utf-8", "ignore")[: room - 1].decode("utf-8", "ignore")
    if not readable or _RESERVED.fullmatch(readable.lower()):  # Windows reserves con.txt as well as con
        readable = "_" + readable
    return readable + mark + SUFFIX
