"""How many tasks ended in each stretch of the run so far: what the throughput chart shows.

There are at most POINTS stretches, all equally long; where a run outlasts them, each two become one of double length.

Threads: the updater's alone.
"""

from __future__ import annotations

POINTS, FIRST_STEP_S = 120, 1.0


class Throughput:
    """Ends by stretch of time. A pause adds nothing: the chart shows the time in which the run ran."""

    def __init__(self) -> None:
        self.step_s = FIRST_STEP_S
        self._ends: list[int] = []
        self._at: float | None = None  # when the stretch under way began; None while the run does not run
        self._before: int | None = None  # ends at that moment

    def add(self, now: float, ends: int, running: bool) -> None:
        """So many tasks had ended by `now`."""
        if self._before is None:
            self._before = ends  # those before anybody looked stand nowhere
        if self._at is None:
            if running:
                self._at = now
            return
        passed = int((now - self._at) / self.step_s)
        if passed:
            # Where nobody looked for some stretches, what ended in them is spread evenly.
            each, rest = divmod(ends - self._before, passed)
            kept = min(passed, 4 * POINTS)
            self._ends += [each + (i < rest) for i in range(kept)]
            self._at += passed * self.step_s
            self._before = ends
            while len(self._ends) > POINTS:
                self._halve()
        if not running:
            self._at = None

    def _halve(self) -> None:
        odd = self._ends.pop() if len(self._ends) % 2 else 0  # it is counted with the stretch under way
        self._ends = [a + b for a, b in zip(self._ends[::2], self._ends[1::2], strict=True)]
        self._before = (self._before or 0) - odd
        if self._at is not None and odd:
            self._at -= self.step_s
        self.step_s *= 2

    @property
    def rates(self) -> list[float]:
        """Ends a second, oldest first, with three digits."""
        return [float(f"{n / self.step_s:.3g}") for n in self._ends]
