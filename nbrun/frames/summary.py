"""One saved result, or one file, in a few numbers: what the columns tell of it. Pure functions, called for every row.

No pandas and no numpy here, so that the loader's helper processes start fast. Any thread.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import blake2b
from math import nan
from typing import Any
from zlib import crc32

from nbrun import verdicts
from nbrun.samples import KEY_BYTES
from nbrun.storage import match as matching
from nbrun.storage.samplefile import Place
from nbrun.storage.values import dump

Match = Mapping[str, Any]


def identity(stat: os.stat_result) -> list[int]:
    """What tells a file's content from any other that stood, or will stand, under its name."""
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def identity_in(place: Place) -> list[int]:
    """The same of a file that stands in an archive, which is never written again."""
    return [place.size, place.crc, place.ctime_ns, place.ino]


def match_digest(match: Match) -> int:
    """Which match record an old file's rows were read with: that file and that dataset match in one way only."""
    return crc32(dump([match["size"], match["crc"], match["identities"]]))


def judgement(result: Any) -> tuple[str | None, int, int, int, float]:
    """verdict, accepted (1, 0, -1), n_tests, n_passed (-1: none), the longest test's time in seconds (NaN: not told).

    Example:
        >>> judgement({"accepted": True, "tests": [{"passed": True, "exec_info": {"run_result": {}}}]})
        ('Accepted', 1, 1, 1, nan)
    """
    if type(result) is not dict:
        return None, -1, -1, -1, nan
    told = result.get("accepted")
    verdict = "Accepted" if told is True and "verdict" not in result else verdicts.of(result)
    if verdict == "Accepted":
        accepted = 1
    elif verdicts.rejects(verdict):
        accepted = 0
    else:
        accepted = int(told) if verdict != "JudgeError" and isinstance(told, bool) else -1
    tests = result.get("tests")
    if type(tests) is not list:
        return verdict, accepted, -1, -1, nan
    passed, longest = 0, -1.0
    try:
        for test in tests:
            if test["passed"] is True:
                passed += 1
            time_s = test["exec_info"]["run_result"]["execution_time"]
            if time_s > longest:
                longest = time_s
    except (KeyError, TypeError):  # a test that wasn't run to its end
        if not verdicts.are_tests(tests):
            return verdict, accepted, -1, -1, nan
        _, some, slow = verdicts.tests_summary(result)
        return verdict, accepted, len(tests), some or 0, nan if slow is None else slow
    return verdict, accepted, len(tests), passed, longest if longest >= 0 else nan


def old_key(row: Mapping[str, Any]) -> bytes:
    """storage's old_key, with its canonical form written out for the two texts that nearly every row has (F9)."""
    language, solution = row.get("language"), row.get("solution")
    if type(language) is str and type(solution) is str:
        a, b = language.encode("utf-8", "surrogatepass"), solution.encode("utf-8", "surrogatepass")
        return blake2b(b"{s8:languages%d:%bs8:solutions%d:%b}" % (len(a), a, len(b), b), digest_size=KEY_BYTES).digest()
    return matching.old_key(row)


def without_doubled(rows: list[dict[str, Any]], total: Any) -> list[dict[str, Any]]:
    """A list that is longer than its dataset's holds solutions twice: the first of each counts."""
    more = len(rows) - total if type(total) is int else 0
    if more <= 0:
        return rows
    seen: set[bytes] = set()
    doubled = []
    for rank, row in enumerate(rows):
        key = old_key(row)
        if key in seen:
            doubled.append(rank)
        seen.add(key)
    dropped = set(doubled[-more:])
    return [row for rank, row in enumerate(rows) if rank not in dropped]
