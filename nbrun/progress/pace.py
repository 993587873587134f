"""Counts at marks in time -> how fast tasks end. No locks: the board calls it with its own held."""

from __future__ import annotations

from collections import deque

#: Spacing and number of the marks from which rates are taken: half seconds for two minutes, 15 s for an hour.
FINE_S, COARSE_S, MARKS = 0.5, 15.0, 240
#: A rate looks back so far, and further while fewer ends than this lie in the window.
WINDOW_S, WINDOW_ENDS = 30.0, 20


class Pace:
    """How many tasks had ended when. Times are in monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._fine: deque[tuple[float, int]] = deque([(now, 0)], maxlen=MARKS)
        self._coarse: deque[tuple[float, int]] = deque([(now, 0)], maxlen=MARKS)

    def restart(self, now: float, ends: int) -> None:
        """Forgets what was."""
        for marks in (self._fine, self._coarse):
            marks.clear()
            marks.append((now, ends))

    def mark(self, now: float, ends: int) -> None:
        """So many have ended."""
        if now - self._fine[-1][0] >= FINE_S:
            self._fine.append((now, ends))
            if now - self._coarse[-1][0] >= COARSE_S:
                self._coarse.append((now, ends))

    def rate(self, now: float, ends: int) -> float | None:
        """Ends a second: over WINDOW_S, or as far back as WINDOW_ENDS ends need, an hour at most."""
        best: tuple[float, int] | None = None
        for at, before in reversed(self._fine):
            best = (at, before)
            if now - at >= WINDOW_S and ends - before >= WINDOW_ENDS:
                break
        else:
            for at, before in reversed(self._coarse):
                if best is None or at < best[0]:
                    best = (at, before)
                    if ends - before >= WINDOW_ENDS:
                        break
        if best is None or now - best[0] < 0.05 or ends == best[1]:
            return None
        return (ends - best[1]) / (now - best[0])
