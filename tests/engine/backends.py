"""Everything that can run tasks, behind one call: threads, an event loop, and real executors."""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

import nbrun

SLOTS = 2
#: Under `mpiexec -n 3 python -m mpi4py.futures -m pytest` (test_mpi.py) the tests run over its two workers.
IS_MPI = "mpi4py.futures" in sys.modules
#: Kinds of backends that need a package of their own -> its name.
PACKAGES = {"loky": "loky", "dask": "distributed", "mpi": "mpi4py"}


def kind_param(kind: str, *more: Any, package: str | None = None) -> Any:
    """A kind of backend as a parameter of a test, which is skipped where the package that it needs isn't installed."""
    needed = package or PACKAGES.get(kind)
    marks = [pytest.mark.needs(needed)] if needed else []
    if needed in ("distributed", "mpi4py"):
        marks.append(pytest.mark.long)
    return pytest.param(kind, *more, marks=marks)


#: Kinds of backends whose tasks run in other processes.
FAR = ("mpi",) if IS_MPI else ("spawn", "forkserver", *map(kind_param, ("loky", "dask")))
#: The same for tests that start many processes: nbrun treats a pool that spawns them as one with a fork server.
FAR_QUICK = ("mpi",) if IS_MPI else (pytest.param("spawn", marks=pytest.mark.long), *FAR[1:])
KINDS = FAR if IS_MPI else ("threads", "async", "pool of threads", *FAR)


def process_pool(method: str, width: int = SLOTS) -> Callable[[], Executor]:
    """A factory of process pools."""
    context = multiprocessing.get_context(method)
    return lambda: ProcessPoolExecutor(width, mp_context=context)


def loky_pool() -> Executor:
    import loky

    return loky.ProcessPoolExecutor(SLOTS)  # type: ignore[no-any-return]


def pool_of(kind: str) -> Callable[[], Any]:
    """A factory of executors of this kind; Dask's come from a client."""
    if kind == "mpi":
        from mpi4py.futures import MPIPoolExecutor

        return MPIPoolExecutor
    return loky_pool if kind == "loky" else process_pool(kind)


def is_gone(pid: int) -> bool:
    """Has that process ended?"""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def dask_client(workers: int = SLOTS) -> Iterator[Any]:
    """A client of a local cluster of processes."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def parsl_pool(folder: Path) -> Iterator[Executor]:
    """Parsl's pool of worker processes on this machine, in sessions of their own; its logs go to the folder."""
    from parsl.concurrent import ParslPoolExecutor
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    programs = Path(sys.executable).parent
    workers = HighThroughputExecutor(
        address="127.0.0.1",
        max_workers_per_node=SLOTS,
        heartbeat_period=1,  # seconds between two looks for lost workers
        interchange_launch_cmd=["setsid", str(programs / "interchange.py")],
        provider=LocalProvider(max_blocks=1, worker_init=f'export PATH="{programs}:$PATH"'),
    )
    config = Config(executors=[workers], run_dir=str(folder), strategy="none", strategy_period=0.2)
    with ParslPoolExecutor(config) as pool:
        yield pool


class Backend:
    """Starts runs on one kind of worker. `is_far`: they are other processes."""

    def __init__(self, name: str, executor: Any = None) -> None:
        self.name, self.executor = name, executor
        self.is_far = name not in ("threads", "pool of threads", "async")

    def start(self, results: Path, fn: Callable[[nbrun.Task], Any], items: list[Any], **more: Any) -> nbrun.Run:
        """One sample `s` of these items; or `samples=`."""
        samples = more.pop("samples", [{"id": "s", "items": items}])
        called: Any = fn
        if self.name == "async":

            async def called(task: nbrun.Task) -> Any:
                return await asyncio.to_thread(fn, task)

            called.settings = {"fn": "wrapped"}
        more = {"workers": SLOTS, "groups": ["item"], "view": None} | more
        return nbrun.start(samples, called, results, executor=self.executor, **more)

    def run(self, results: Path, fn: Callable[[nbrun.Task], Any], items: list[Any], **more: Any) -> nbrun.Run:
        """The same, to its end."""
        run = self.start(results, fn, items, **more)
        run.wait(280)  # pytest gives a test 300 s; a pool on a busy machine replaces a lost worker in ten
        assert run.progress.ended
        return run


@contextmanager
def open_backend(name: str) -> Iterator[Backend]:
    """A backend whose executor is the user's own and stays open for all tests of a module."""
    if name in ("threads", "async"):
        yield Backend(name)
    elif name == "dask":
        with dask_client() as client:
            yield Backend(name, client.get_executor())
    else:
        pool = ThreadPoolExecutor(SLOTS) if name == "pool of threads" else None
        pool = pool or pool_of(name)()
        yield Backend(name, pool)
        pool.shutdown(wait=False)
