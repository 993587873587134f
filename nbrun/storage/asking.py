"""Asks a judge about archived entries without taking them out of their archive. Threads: the feeder."""

from __future__ import annotations

import io
from pathlib import Path

from nbrun.results import archives, legacy, sample_file, values
from nbrun.results.legacy import match_old, old_body
from nbrun.results.sample_file import FileInfo, Unreadable
from nbrun.results.values import load
from nbrun.samples import Sample
from nbrun.storage.found import Again
from nbrun.storage.match import match_own


def none_again(folder: Path, sample: Sample, info: FileInfo, again: Again) -> bool:
    """Whether no entry of an archived file shall be made again."""
    assert info.place is not None
    try:
        data = archives.read_member(folder, info.place)
        content = sample_file.read_any(io.BytesIO(data))
        if isinstance(content, sample_file.OwnFile):
            found, _ = match_own(sample, content.heads)
            bodies = {p: content.body(h) for p, h in found.items() if h.status == "done"}
        else:
            old = legacy.parse_old(content)
            bodies = {
                m.position: old_body(old.groups[m.group][m.rank], m, old)
                for m in match_old(sample, old)
                if m.position is not None
            }
    except Unreadable:
        return True  # it is told where it is taken out
    return not any(again.ask(values.decode(load(body)), p) for p, body in bodies.items())
