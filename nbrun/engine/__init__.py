"""Which task next, who runs it, retries, pause, stop. Knows storage only as a model.ResultSink."""

from nbrun.engine.scheduler import Scheduler
from nbrun.engine.thread_pool import ThreadPool
from nbrun.engine.worker_pool import TaskSource, WorkerPool

__all__ = ["Scheduler", "TaskSource", "ThreadPool", "WorkerPool"]
