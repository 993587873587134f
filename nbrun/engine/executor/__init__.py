"""Tasks in any concurrent.futures.Executor: process pools, loky, Dask, MPI; saving stays in the kernel.

payload.py packs, worker.py runs in the worker process, dispatcher.py sends and receives, lost_workers.py handles
workers that died.
"""

from nbrun.engine.executor.backend import ExecutorBackend

__all__ = ["ExecutorBackend"]
