"""What a view of a run shows and steers, for tests that need no widget."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from nbrun import Run
from nbrun.model import RunControls
from nbrun.session.run import Controls
from nbrun.session.watching import Watch, WatchControls


def controls_of(run: Run | Watch) -> RunControls:
    """Return what the panel and the console are given of a run or of a watch."""
    return WatchControls(run) if isinstance(run, Watch) else Controls(run)


def shell_of(kind: type[Any], **config: Any) -> Any:
    """Return a shell of IPython that isn't set up: a real one would take over stdout and the tests' display hook."""
    from traitlets.config import Config

    shell = kind.__new__(kind)
    shell.config = Config(config)
    return shell


@contextmanager
def notebook_shell() -> Iterator[None]:
    """Runs that start within are started in a notebook, as far as nbrun can see."""
    import IPython
    from ipykernel.zmqshell import ZMQInteractiveShell

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IPython, "get_ipython", lambda: shell_of(ZMQInteractiveShell))
        yield
