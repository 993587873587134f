"""Every exception that nbrun raises on purpose.

    NbrunError
    ├── InputError (ValueError)          the caller's arguments, before anything is written
    │   ├── SampleError                  a sample that cannot be read: says its position and id
    │   └── FunctionError (TypeError)    fn cannot be called with one task
    ├── ResultsError                     the results directory
    │   ├── ResultsInUseError            another process writes there
    │   ├── ResultsExistError            if_exists="error", and there are results
    │   ├── FormatError                  written by a newer format than this nbrun knows
    │   └── StorageError (OSError)       the disk said no: full, read-only, an I/O error
    │       └── ResultsMovedError        the directory was moved, deleted or replaced under a live run
    ├── RunActiveError                   this kernel runs there already, with other settings
    ├── RunHaltedError                   the run cannot go on; its cause is chained
    │   └── SystematicFailureError       every task fails in the same way
    ├── JudgeError                       the judging machinery failed; says nothing of the solution
    │   ├── NotSupportedError            this judge can't judge that at all: a language, a kind of problem
    │   └── JudgeUnavailableError        nothing can be judged for now: the run pauses, and goes on by itself
    ├── TaskTimeout (TimeoutError)       an attempt took longer than timeout_s
    ├── ThreadLimitError (RuntimeError)  the system starts no more threads
    └── UnstorableError (TypeError)      a result that no JSON can hold

Messages say what happened, where, and what to do next.
"""

from __future__ import annotations

import functools
import sys
import traceback
import types
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from nbrun.texts import without_surrogates

_P = ParamSpec("_P")
_R = TypeVar("_R")


#: How an UnstorableError of a result ends.
STORABLE_ADVICE = " Return plain values: text, numbers, lists, mappings."


class NbrunError(Exception):
    """The root: `except nbrun.errors.NbrunError` catches all that nbrun raises on purpose.

    Messages quote ids, paths and texts of users; what UTF-8 can't hold is replaced, so that every front end shows them.
    """

    def _render_traceback_(self) -> list[str]:
        """What IPython shows. It would always show the last frame, also one that hides itself."""
        shell = sys.modules["IPython"].get_ipython()
        frames: list[types.TracebackType] = []
        tb = self.__traceback__
        while tb is not None:
            frames.append(tb)
            tb = tb.tb_next
        while len(frames) > 1 and frames[-1].tb_frame.f_locals.get("__tracebackhide__"):
            frames.pop()
        kept: types.TracebackType | None = None
        for frame in reversed(frames):
            kept = types.TracebackType(kept, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
        if shell is None:
            return traceback.format_exception(type(self), self, kept)
        return shell.InteractiveTB.structured_traceback(type(self), self, kept)  # type: ignore[no-any-return]

    def __init__(self, *args: object) -> None:
        super().__init__(*(without_surrogates(a) if isinstance(a, str) else a for a in args))


class InputError(NbrunError, ValueError):
    """An argument that cannot be right. Raised before anything is written."""


class SampleError(InputError):
    """A sample that cannot be read.

    Attributes:
        position: where it stands in `samples`, counted from 0; None where that is not known.
        sample_id: its id, if it has one.
    """

    def __init__(self, message: str, *, position: int | None = None, sample_id: str | None = None) -> None:
        super().__init__(message)
        self.position = position
        self.sample_id = sample_id


class FunctionError(InputError, TypeError):
    """`fn` cannot be called with one argument, the task."""


class ResultsError(NbrunError):
    """Something about the results directory. Attribute `path`: which one."""

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class ResultsInUseError(ResultsError):
    """Another process writes into the directory. One process writes at a time; any number may read."""


class ResultsExistError(ResultsError):
    """`if_exists="error"` was asked for and the directory holds results."""


class FormatError(ResultsError):
    """The directory was written by a newer nbrun."""


class StorageError(ResultsError, OSError):
    """The disk refused: it is full, read-only, or failing. What was saved stays saved."""


class ResultsMovedError(StorageError):
    """The directory of a live run was moved, deleted or replaced: the run pauses, and says where its results are."""


class RunActiveError(NbrunError):
    """This kernel already runs on the directory, with other settings. The message lists the differences."""


class RunHaltedError(NbrunError):
    """The run cannot go on. `__cause__` holds the reason; everything saved so far is kept."""


class SystematicFailureError(RunHaltedError):
    """The first tasks, or very many in a row, failed with one exception type: the run paused itself."""


class JudgeError(NbrunError):
    """The judging machinery failed. It ends as status error and counts in no rate.

    Attributes:
        retriable: whether another try may end differently; an engine asks no more where it is False.
    """

    retriable = True

    def __init__(self, message: str, *, retriable: bool | None = None) -> None:
        super().__init__(message)
        if retriable is not None:
            self.retriable = retriable


class NotSupportedError(JudgeError):
    """This judge can't judge that at all (a language, a kind of problem). Never tried again, and no sign of a fault."""

    retriable = False


class JudgeUnavailableError(JudgeError):
    """Nothing can be judged for now. The run pauses, the task waits, and no attempt is counted; the run goes on as soon
    as `fn.is_available()` says so."""


class TaskTimeout(NbrunError, TimeoutError):
    """An attempt took longer than `timeout_s`. Its task is tried again as after any other exception."""


class ThreadLimitError(NbrunError, RuntimeError):
    """The system starts no more threads for this process."""


class UnstorableError(NbrunError, TypeError):
    """A result that cannot be stored as strict JSON: the message names where in it the value stands."""


def hides_own_frames(fn: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let errors of use begin at the user's line: what nbrun did until it noticed them is no help.

    Errors that are no errors of use keep their whole traceback.
    """

    @functools.wraps(fn)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        __tracebackhide__ = True  # IPython and pytest leave this frame out
        try:
            return fn(*args, **kwargs)
        except (InputError, ResultsError, RunActiveError, RunHaltedError) as e:
            raise e.with_traceback(None)  # noqa: B904 - it is the very same error, with its cause

    return call


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the user's line that called nbrun, whichever of its functions that was."""
    level = 1
    frame: types.FrameType | None = sys._getframe()
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "nbrun":
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)
