"""What looking at a results directory found: each thing that is damaged, what it costs, what repair does about it.

Values; any thread.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from nbrun.texts import escape_control_chars

#: What repair does, by kind of damage.
REPAIRS = {
    "entries": "keeps the file in .nbrun/damaged/ and writes a new one with what can be read",
    "counts": "writes the file's counts anew",
    "unreadable": "moves the file to .nbrun/damaged/",
    "double": "moves this file to .nbrun/damaged/",
    "segment": "writes what can be read to the samples' files and moves the segment to .nbrun/damaged/",
    "tail": "writes what can be read to the samples' files and removes the segment",
    "log": "keeps the log in .nbrun/damaged/ and writes a new one with what can be read",
    "archived": "leaves the archive where it is",
    "odd": "leaves it where it is; remove it, if you trust the rest of the directory",
    "foreign": "leaves it where it is",
}


def _one_line(text: str) -> str:
    """Names of files and ids come from whoever wrote the directory."""
    return escape_control_chars(text).replace("\n", "␊").replace("\t", "␉")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        path: the file.
        kind: a key of REPAIRS.
        what: what is wrong with it; completes the sentence "PATH …".
        cost: what that costs.
        repair: what repair would do, or did.
        sample_id: the sample, where that is known.
        is_repaired: repair did it.
    """

    path: str
    kind: str
    what: str
    cost: str
    repair: str
    sample_id: str | None = None
    is_repaired: bool = False

    def __str__(self) -> str:
        did = f"Repaired: {self.repair}." if self.is_repaired else f"Repair {self.repair}."
        return _one_line(f"{self.path} {self.what}. {self.cost} {did}")


@dataclass(repr=False)
class Report:
    """What `check` found.

    Attributes:
        path: the results directory.
        samples, entries: how many can be read.
        waiting: entries that stand in the journal only; the next run, or repair, writes them to files.
        findings: what is wrong.
        kept: files in `.nbrun/damaged/`, from earlier.
        holder: the process that writes there now, or "".
    """

    path: str
    samples: int = 0
    entries: int = 0
    waiting: int = 0
    findings: list[Finding] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    holder: str = ""

    @property
    def is_ok(self) -> bool:
        """Nothing is damaged, or all of it was repaired. What is merely foreign counts as no damage."""
        return all(f.is_repaired or f.kind == "foreign" for f in self.findings)

    def add(self, path: Path | str, kind: str, what: str, cost: str, sample_id: str | None = None) -> None:
        """One more finding; its arguments are those of Finding."""
        self.findings.append(Finding(str(path), kind, what, cost, REPAIRS[kind], sample_id))

    def after_repair(self, left: Report) -> list[Finding]:
        """These findings, marked where the report after the repair has them no more, and those that only it has."""
        before = {(f.path, f.kind) for f in self.findings}
        still = {(f.path, f.kind) for f in left.findings}
        marked = [dataclasses.replace(f, is_repaired=(f.path, f.kind) not in still) for f in self.findings]
        return [*marked, *(f for f in left.findings if (f.path, f.kind) not in before)]

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"is_ok": self.is_ok, **dataclasses.asdict(self)}

    def __repr__(self) -> str:
        left = [f for f in self.findings if not f.is_repaired]
        found = f"{len(left):,} finding{'' if len(left) == 1 else 's'}" if left else "nothing is damaged"
        return f"<nbrun.Report of {self.path!r}: {self.entries:,} results of {self.samples:,} samples, {found}>"

    def _repr_html_(self) -> str:
        """For a notebook: what __str__ says, with the findings as a list."""
        first, *rest = str(self).splitlines()
        items = "".join(f"<li>{escape(line)}</li>" for line in rest)
        return f"<div><p>{escape(first)}</p><ul>{items}</ul></div>"

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.entries:,} results of {self.samples:,} samples can be read."]
        lines = [_one_line(lines[0]), *map(str, self.findings)]
        if not self.findings:
            lines.append("Nothing is damaged.")
        if self.waiting:
            lines.append(f"{self.waiting:,} results stand in the journal only; the next run writes them to files.")
        if self.kept:
            lines.append(f"{len(self.kept):,} files are kept in .nbrun/damaged/ from earlier.")
        if self.holder:
            lines.append(_one_line(f"{self.holder} writes there now."))
        return "\n".join(lines)
