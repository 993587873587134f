"""Tasks in any concurrent.futures.Executor: process pools, loky, Dask, MPI; saving stays in the kernel.

cargo.py packs, far.py runs in the worker, dispatcher.py sends and takes back, losses.py copes with lost workers.
"""

from nbrun.engine.executors.remote import Remote

__all__ = ["Remote"]
