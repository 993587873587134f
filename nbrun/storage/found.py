"""What opening a sample found, and who says what of it runs again. Threads: the feeder only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbrun.storage.book import DONE, Book, Columns
from nbrun.storage.match import Retyped
from nbrun.verdicts import Tally, accepts, rejects

Fresh = Callable[[str, str], bool]


@dataclass(frozen=True)
class Again:
    """Who says which saved results run again: `ask`, with an entry and its position. `may` spares the reading: told
    verdict and run_id, it says whether there is anything to ask."""

    ask: Callable[[Mapping[str, Any], int], bool]
    may: Callable[[str | None, str], bool] = lambda verdict, run_id: True

    def may_any(self, found: Found) -> bool:
        """Whether there may be something to ask about a finished sample."""
        return any(self.may(verdict, run_id) for verdict in (*found.verdicts, None) for run_id in found.runs or ("",))


@dataclass(slots=True)
class Found:
    """What earlier runs left of a sample. `book` is None where nothing is missing."""

    book: Book | None
    total: int
    done: int = 0
    verdicts: Mapping[str, int] = field(default_factory=dict)
    accepted: int = 0
    rejected: int = 0
    unexpected: int = 0
    tally: Tally = Tally()  # noqa: RUF009 - immutable
    runs: Mapping[str, int] = field(default_factory=dict)
    contexts: Mapping[str, int] = field(default_factory=dict)
    changed: int = 0  # entries that match no item any more
    retyped: Sequence[Retyped] = ()  # items that hardly differ from such an entry's


def found_in(book: Book, c: Columns, chosen: Container[int] = ()) -> Found:
    """What the book holds, without the results that are about to be replaced."""
    found = Found(None, book.total, changed=len(book.orphans))
    made = Counter([m for p, m in enumerate(c.made) if c.status[p] == DONE and p not in chosen])
    counts, runs, contexts = Counter[str](), Counter[str](), Counter[str]()
    for number, count in made.items():
        verdict, run_id, context = book.makers[number]
        runs[run_id] += count
        contexts[context] += count
        if verdict is not None:
            counts[verdict] += count
    found.done = made.total()
    found.verdicts, found.runs, found.contexts = counts, runs, contexts
    found.accepted = sum(n for verdict, n in counts.items() if accepts(verdict))
    found.rejected = counts["JudgeError"] + sum(n for verdict, n in counts.items() if rejects(verdict))
    if book.is_judged and counts:
        verdict_of = [verdict for verdict, _, _ in book.makers]
        done = (p for p, status in enumerate(c.status) if status == DONE and p not in chosen)
        found.tally = book.tally_of((p, verdict_of[c.made[p]]) for p in done)
        found.unexpected = found.tally.unexpected
    return found
