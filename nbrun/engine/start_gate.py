"""When the next attempt may start: at most `max_per_s` per second, and none while a service refuses all calls.

A service that limits requests answers HTTP 429 and says when to try again. `hold` delays all attempts until then. If
all workers continued at the same time after that, most of them would be refused immediately. So the gate estimates from
each hold how many attempts the service accepts per second: the tasks that ended since the previous hold, divided by the
time between the ends of the two holds. It spaces attempts a little wider than this rate, and then raises the rate until
the next refusal: slowly at first, faster and faster if none comes.

A hold before which no task ended is an outage. It says nothing about the rate, and the longer an outage lasts, the
longer its holds are.

Threads: every method is called with the scheduler's lock held. `is_active` may be read at any time.
"""

from __future__ import annotations

from collections.abc import Callable

#: An attempt may start this many seconds early, so that a timer that fires late doesn't lower the rate.
EARLY_S = 0.02
#: The rate after a hold is the share CAUTION of the estimated rate. In each period (the time between two holds, at most
#: LONGEST_S) the share GROWTH of that is added. After DOUBLING periods the rate also doubles every DOUBLING periods.
CAUTION, GROWTH, DOUBLING, LONGEST_S = 0.9, 0.05, 6, 10.0
#: Above this rate, spacing makes no difference.
FAST_PER_S = 10_000.0
#: A hold in an outage lasts at least the share SHARE of the outage so far, but this share is at most MOST_S seconds.
SHARE, MOST_S = 0.1, 60.0


class StartGate:
    """The gate of one run. All times are seconds on one monotonic clock.

    Args:
        max_per_s: how many attempts may start per second; None for no limit.
        ends: returns how many tasks have ended so far.
        on_hold_end: called when a hold is over, by the method that notices it first.

    Attributes:
        is_active: False while attempts may start at any time; then `started` need not be called.
        reason: why attempts were delayed the last time.
    """

    def __init__(
        self,
        max_per_s: float | None = None,
        ends: Callable[[], int] = lambda: 0,
        on_hold_end: Callable[[], object] = lambda: None,
    ) -> None:
        self._max_per_s, self._count_ends, self._on_hold_end = max_per_s, ends, on_hold_end
        self.is_active = max_per_s is not None
        self.reason = ""
        self._next = 0.0  # when the next attempt may start
        self._held_until: float | None = None  # None once the end of the hold was noticed
        self._outage_began: float | None = None
        self._teaches = False  # the current hold is by a service that limits requests
        self._cycle_began: float | None = None  # when the last hold ended from which a rate was estimated
        self._cycle_s = LONGEST_S  # how long before that the previous one ended
        self._learned: float | None = None  # the rate after that hold
        self._ends = 0  # how many tasks had ended then

    def limit(self, max_per_s: float | None) -> None:
        """Set how many attempts may start per second."""
        self._max_per_s = max_per_s
        self._set_active()

    def is_held(self, now: float) -> bool:
        """Return whether all attempts are delayed."""
        return self._held_until is not None and now < self._held_until

    def next_at(self, now: float) -> float:
        """Return when the next attempt may start; not later than `now` if one may start now."""
        if self._held_until is not None:
            if now < self._held_until:
                return self._held_until
            self._end_hold(now)
        return self._next - EARLY_S

    def started(self, now: float) -> None:
        """Record that an attempt starts now."""
        rate = self._rate(now)
        if rate is not None:
            self._next = max(self._next, now - EARLY_S) + 1.0 / rate

    def hold(self, now: float, wait_s: float, reason: str, *, began: float | None = None) -> bool:
        """Delay all attempts by `wait_s`, since one was refused. Return False if they were delayed already.

        Args:
            began: when the run began, which is where the first estimate starts. None if the service was unavailable,
                which says nothing about its limit.
        """
        was_held = self.is_held(now)
        if not was_held:
            self.next_at(now)  # notices the end of the last hold
        if began is not None and self._cycle_began is None:
            self._cycle_began = began
        self._teaches |= began is not None
        if self._outage_began is not None and not was_held:
            wait_s = max(wait_s, min(MOST_S, SHARE * (now - self._outage_began)))
        self._outage_began = now if self._outage_began is None else self._outage_began
        self._held_until = max(self._held_until or 0.0, now + wait_s)
        self.reason = reason
        self.is_active = True
        return not was_held

    def _end_hold(self, now: float) -> None:
        self._held_until = None
        self._next = now
        ends = self._count_ends()
        taken, teaches, self._teaches = ends - self._ends, self._teaches, False
        if taken > 0:
            self._outage_began = None
            if teaches and self._cycle_began is not None:
                self._cycle_s = max(now - self._cycle_began, 1e-3)
                self._learned = CAUTION * taken / self._cycle_s
                self._cycle_began, self._ends = now, ends
        self._set_active()
        self._on_hold_end()

    def _rate(self, now: float) -> float | None:
        """Return how many attempts per second are allowed now; None for no limit."""
        if self._learned is None or self._cycle_began is None:
            return self._max_per_s
        periods = (now - self._cycle_began) / min(self._cycle_s, LONGEST_S)
        doubled: float = 2.0 ** min(max(0.0, periods / DOUBLING - 1.0), 30.0)
        learned = self._learned * (1.0 + GROWTH * periods) * doubled
        if learned > FAST_PER_S:
            self._learned = None
            self._set_active()
            return self._max_per_s
        return learned if self._max_per_s is None else min(learned, self._max_per_s)

    def _set_active(self) -> None:
        counted = self._cycle_began is not None  # after a refusal, attempts are recorded
        self.is_active = self._max_per_s is not None or counted
