"""What a view of a run shows and steers, for tests that need no widget."""

from __future__ import annotations

from nbrun import Run
from nbrun.model import RunControls
from nbrun.session.run import Controls
from nbrun.session.watching import Watch, WatchControls


def controls_of(run: Run | Watch) -> RunControls:
    """Return what the panel and the console are given of a run or of a watch."""
    return WatchControls(run) if isinstance(run, Watch) else Controls(run)
