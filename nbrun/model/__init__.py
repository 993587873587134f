"""The words of design as types: frozen values, enums, and the protocols that are the doors between the rooms.

No I/O happens here and nothing is imported from the rooms above.
"""

from nbrun.model.daemon import start_daemon, start_thread
from nbrun.model.doors import Judge, Record, ResultSink, RunControls, SinkClosedError, TaskRow, Work
from nbrun.model.retry import MAX_AFTER_S, NEVER_RETRIED, Retry, RetryPolicy
from nbrun.model.task import CancelFlag, State, Status, Task

__all__ = [
    "MAX_AFTER_S",
    "NEVER_RETRIED",
    "CancelFlag",
    "Judge",
    "Record",
    "ResultSink",
    "Retry",
    "RetryPolicy",
    "RunControls",
    "SinkClosedError",
    "State",
    "Status",
    "Task",
    "TaskRow",
    "Work",
    "start_daemon",
    "start_thread",
]
