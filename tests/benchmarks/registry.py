"""What is measured, and what is wanted of it: one line a benchmark, one goal a figure.

To add one: write a function without arguments that returns its figures (numbers, by name, nested where that reads
better) in a module of this folder, and list it here. It runs in a process of its own, so peaks of memory are its own;
speeds are ratios to something measured in the same call. A peer that isn't installed is left out of the figures:
`pip install -e ".[test,benchmarks]"` brings them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Goal:
    """One figure, and what it should be.

    Attributes:
        figure: where it stands in the figures, with dots: "delay.p99_ms".
        says: what it is, as the README's table says it.
        limit: the number to reach; None for a peer's figure, which only stands beside ours.
        is_least: whether the figure must be at least the limit, or at most.
        unit: written behind numbers: " ms", "×", " %".
    """

    figure: str
    says: str
    limit: float | None = None
    is_least: bool = True
    unit: str = ""

    def is_met(self, value: Any) -> bool:
        """Does the figure reach the limit?"""
        if self.limit is None:
            return True
        return bool(value >= self.limit if self.is_least else value <= self.limit)


@dataclass(frozen=True)
class Benchmark:
    """A function `where` ("module:function", in this folder) that returns figures, and goals for some of them.

    `is_long`: runs only when it is named.
    """

    name: str
    where: str
    goals: tuple[Goal, ...] = ()
    is_long: bool = False


def least(figure: str, limit: float, says: str, unit: str = "") -> Goal:
    """A figure that must not be lower."""
    return Goal(figure, says, limit, True, unit)


def most(figure: str, limit: float, says: str, unit: str = "") -> Goal:
    """A figure that must not be higher."""
    return Goal(figure, says, limit, False, unit)


def peer(figure: str, says: str, unit: str = "") -> Goal:
    """What somebody else's code reaches in the same run."""
    return Goal(figure, says, None, True, unit)


BENCHMARKS: tuple[Benchmark, ...] = (
    Benchmark("throughput", "throughput:main", (
        least("durable_over_bare_pool_8_workers", 1.5, "results saved, over a thread pool that saves nothing", "×"),
        least("durable_over_bare_pool_64_workers", 1, "the same with 64 threads in both", "×"),
        most("most_unsaved", 1000, "most results unsaved at a time"),
        most("delay_at_1000_a_second.p99_ms", 50, "from a task's end to its being saved, p99 at 1,000 a second", " ms"),
        most("growth_60000_over_6000", 1.3, "a result in a sample of 60,000, over one in 6,000", "×"),
    )),
    Benchmark("fusion", "fusion:main", (
        least("run.of_ideal_rate", 0.95, "768 SandboxFusion endpoints, 1 s a request, of the ideal rate"),
        most("run.cores", 1, "CPU time of the kernel meanwhile", " cores"),
        most("run.peak_mb", 400, "memory of the kernel meanwhile", " MB"),
        peer("http_client.cpu_us_a_request", "CPU a request, http.client alone", " µs"),
        peer("urllib3.cpu_us_a_request", "CPU a request, urllib3 alone", " µs"),
        peer("httpx.cpu_us_a_request", "CPU a request, httpx alone", " µs"),
        peer("requests.cpu_us_a_request", "CPU a request, requests alone", " µs"),
    )),
    Benchmark("loading", "loading:main", (
        least("duckdb_over_nbrun", 2, "DuckDB's read_json of 1,000 files of the older program, over load_results", "×"),
        least("duckdb_over_nbrun_again", 20, "the same over load_results of an unchanged directory", "×"),
        peer("polars_over_nbrun", "polars, over load_results", "×"),
        peer("orjson_over_nbrun", "a loop with orjson, over load_results", "×"),
        peer("pandas_read_json_over_nbrun", "pandas.read_json, over load_results", "×"),
        peer("json_over_nbrun", "a loop with json, over load_results", "×"),
        most("memory_over_frame.cold", 1.5, "memory that load_results takes, over its frame", "×"),
        most("memory_over_frame.again", 1.5, "the same for an unchanged directory", "×"),
        most("archived.size", 0.25, "an archive, over the files in it", "×"),
    )),
    Benchmark("importing", "loading:importing", (
        most("nbrun_ms", 100, "`import nbrun`, over a bare interpreter", " ms"),
        peer("nbrun_start_ms", "with all that starts a run", " ms"),
        peer("tqdm_ms", "`import tqdm`", " ms"),
        peer("joblib_ms", "`import joblib`", " ms"),
        peer("pandas_ms", "`import pandas`", " ms"),
    )),
    Benchmark("rivals", "rivals:main", (
        peer("sqlite.median", "SQLite WAL, synchronous=FULL, in groups, over the bare pool", "×"),
        peer("fsync_a_result", "an fsync a result", "×"),
        peer("diskcache", "diskcache", "×"),
        peer("joblib_memory", "joblib.Memory", "×"),
        peer("optuna_journal", "Optuna's journal", "×"),
        peer("parsl_task_exit", "Parsl's checkpoints at each task's exit", "×"),
    )),
    Benchmark("runners", "runners:main", (
        peer("nbrun.seconds", "10,000 samples of one no-op task, each result saved: nbrun, from import to end", " s"),
        peer("nbrun.disk_mb", "… on the disk", " MB"),
        peer("nbrun.peak_mb", "… peak memory", " MB"),
        peer("nbrun.read_s", "… reading all results, in a new process", " s"),
        peer("inspect_ai.seconds", "the same in Inspect AI's eval", " s"),
        peer("inspect_ai.disk_mb", "… its log on the disk", " MB"),
        peer("inspect_ai.peak_mb", "… peak memory", " MB"),
        peer("inspect_ai.read_s", "… reading its log, in a new process", " s"),
        peer("joblib_memory.seconds", "the same in joblib's Parallel and Memory, nothing made durable", " s"),
        peer("joblib_memory.disk_mb", "… on the disk", " MB"),
        peer("joblib_memory.read_s", "… reading all results, in a new process", " s"),
        peer("parsl.seconds", "the same in Parsl with task_exit checkpoints, threads", " s"),
        peer("dask.seconds", "the same in Dask, threads, nothing saved", " s"),
        peer("ray.seconds", "the same in Ray, processes, nothing saved", " s"),
    )),
    Benchmark("beside_a_cell", "scale:beside_a_cell", (
        most("p99_ms", 150, "the same beside a cell that computes: p99 from a task's end to its being saved", " ms"),
    )),
    Benchmark("one_large_sample", "scale:one_sample", (
        most("mb_more_than_at_its_start", 64, "memory as one sample collects 1 GB of results, over its start", " MB"),
    )),
    Benchmark("million", "scale:million", (
        most("peak_mb", 300, "peak memory of 1,000,000 tasks in 10,000 samples", " MB"),
    )),
    Benchmark("growing_sample", "scale:growing", (
        most("one_more_over_all", 0.25, "one more item in a sample of 1,000,000: CPU time, over that of all", "×"),
        most("one_more.peak_mb", 300, "… peak memory", " MB"),
        most("redo.peak_mb", 600, "a tenth of them again: peak memory", " MB"),
        most("load.over_frame", 2, "loading them: memory over the frame", "×"),
    )),
    Benchmark("opening", "scale:opening", (
        most("directory_s", 1, "opening a finished directory of 13,610 samples", " s"),
        most("matching_us_an_item", 10, "matching it with the dataset, an item", " µs"),
    )),
    Benchmark("first_task", "scale:first_task", (
        most("new_directory_ms", 50, "from start() to the first task, a list of 13,610 samples", " ms"),
        most("finished_directory_ms", 300, "the same where all but the last sample are finished", " ms"),
    )),
    Benchmark("growth", "scale:growth", (
        most("record_of_64_over_16_mb", 8, "reading one record of 64 MB, over one of 16 MB", "×"),
        most("overtaken_at_2000_over_500", 8, "reading 2,000 samples that are archived meanwhile, over 500", "×"),
        most("matched_bytes_an_entry", 10, "memory that an entry of a matched old file keeps", " bytes"),
    )),
    Benchmark("disk", "trust:disk", (
        most("most", 2.5, "a directory's room during a run, at most, over the results in it", "×"),
        most("at_the_end", 1.1, "the same at the end", "×"),
    )),
    Benchmark("thousand_kills", "trust:thousand_kills", (
        least("kills", 1000, "SIGKILLs at random moments, half of them with a power cut"),
        most("lost", 0, "results lost by them"),
        most("doubled", 0, "doubled"),
        most("ran_again_a_kill", 40, "tasks that ran again, a kill"),
    ), is_long=True),
    Benchmark("ending", "scale:ending", (
        most("seconds", 1, "the end of a process with 768 requests of 1000 s in flight", " s"),
        most("done_and_not_saved", 0, "results lost by that"),
    )),
    Benchmark("pools", "executors:pools", (
        least("spawn.saved_per_s", 30_000, "results saved a second, no-op tasks of 1 KB, 8 spawned processes"),
        least("loky.saved_per_s", 20_000, "the same over loky"),
        least("dask.saved_per_s", 12_000, "the same over a Dask cluster, its scheduler in the kernel"),
        most("spawn.kernel_cpu_us_per_task", 40, "the kernel's CPU a task, over spawned processes", " µs"),
        most("loky.kernel_cpu_us_per_task", 40, "the same over loky", " µs"),
    )),
    Benchmark("short_tasks", "executors:short_tasks", (
        least("of_ideal.spawn", 0.97, "tasks of 20 ms in 8 processes, of the ideal rate"),
        least("of_ideal.dask", 0.90, "the same over Dask"),
    )),
    Benchmark("kills", "executors:kills", (
        most("missing_or_twice", 0, "tasks lost or doubled while a worker a second is killed"),
        most("attempts_lost", 0, "attempts of fn that these kills cost"),
    )),
    Benchmark("sixteen_threads", "threads:sixteen", (
        most("over_ideal_percent", 2, "10,000 tasks of 50 ms on 16 threads, over the ideal time", " %"),
    )),
    Benchmark("many_threads", "threads:many", (
        least("768_threads.of_ideal", 0.92, "768 threads, tasks of 50–150 ms, of the ideal rate"),
        most("768_threads.cores", 1, "CPU cores that this takes"),
        peer("2000_coroutines.of_ideal", "2,000 coroutines with the same tasks, of the ideal rate"),
    )),
    Benchmark("more_threads", "threads:more_threads_than_useful"),
    Benchmark("bookkeeping", "threads:bookkeeping", (
        most("bytes_per_finished_sample", 300, "memory a finished sample keeps", " bytes"),
        most("bytes_per_task", 20, "the same by task", " bytes"),
        most("cpu_us_per_task", 40, "CPU a task, no-op tasks in threads", " µs"),
    )),
    Benchmark("largest_job", "largest:parts", (
        most("tenth.ready_again_s", 15, "a tenth of the largest job (1,361 samples, 1.2 million tasks, 768 workers): "
             "ready again after a kill at half", " s"),
        most("tenth.peak_mb", 1000, "its peak memory", " MB"),
        most("tenth.bookkeeping_us_per_task", 40, "its CPU a task, less that of 768 plain threads that save nothing",
             " µs"),
        most("time_a_task_tenth_over_hundredth", 1.2, "its time a task, over that in a hundredth of the job", "×"),
    )),
    Benchmark("many_workers", "largest:bookkeeping", (
        most("above_us_per_task", 40, "CPU a task with 768 workers, less that of 768 plain threads that save nothing",
             " µs"),
        peer("bare_cpu_us_per_task", "CPU a task of 768 plain threads", " µs"),
    )),
    Benchmark("judging_overhead", "judging:overhead", (
        most("cpp_isolated.over_ms", 4, "judging a test of a C++ program, over the bare program, in a box", " ms"),
        most("python_isolated.over_ms", 6, "the same of a Python program", " ms"),
        most("cpp_plain.over_ms", 5, "the same of a C++ program, without a box", " ms"),
        most("python_plain.over_ms", 5, "the same of a Python program, without a box", " ms"),
    )),
    Benchmark("judging_verdicts", "judging:verdicts", (
        least("1_workers.share", 1, "verdicts as declared, demo set and 9 problem packages, 1 worker"),
        least("2_workers.share", 1, "the same, 2 workers"),
        least("16_workers.share", 1, "the same, 16 workers on 2 CPUs"),
    )),
    Benchmark("judging_package", "judging:package", (
        most("over_the_faster_one", 1, "a package, over the faster of problemtools and BAPCtools, at worst", "×"),
    )),
    Benchmark("reading_rows", "judging:reading", (
        most("over_datasets_streamed", 1, "1,000 CodeContests-like rows of Parquet, over a stream of datasets", "×"),
        most("over_datasets_converted", 1, "the same over datasets that convert the file first", "×"),
        most("over_a_mapped_dataset", 2.5, "rows of a converted dataset, over iterating it alone", "×"),
    )),
    Benchmark("largest_job_whole", "largest:whole", (
        most("ready_again_s", 15, "all of it (11.6 million tasks): ready again after a kill at half", " s"),
        most("peak_mb", 1000, "its peak memory", " MB"),
    ), is_long=True),
    Benchmark("panel", "panel:main", (
        most("busy.messages_per_s", 12, "panel, 10,000 samples, 5,000 ends a second: messages a second"),
        most("busy.kb_per_s", 20, "… kilobytes a second"),
        most("spread.kb_per_s", 50, "… where ends are spread over all samples"),
        most("busy.messages_per_s_paused", 0, "… messages when nothing changes"),
        most("creation.messages", 60, "… messages until it is there"),
        most("creation.kb", 400, "… kilobytes until it is there"),
        most("creation.seen_s", 1.5, "… from Run All to seen", " s"),
        most("reload_s", 2, "… from a reloaded page's notebook to a live panel", " s"),
        most("dom_100", 300, "elements of the panel at 100 samples"),
        most("dom_13610", 300, "… at 13,610 samples"),
        most("busy.updater_share_pct", 2, "panel's thread, of a core", " %"),
        most("busy.tick_p99_ms", 20, "… a tick's p99", " ms"),
        most("spread.tick_p99_ms", 20, "… where ends are spread over all samples", " ms"),
        most("busy.page_busy_pct", 20, "page busy", " %"),
        most("busy.long_tasks", 0, "tasks of the page over 50 ms"),
        least("busy.frames_per_s", 55, "frames a second"),
        least("busy.scroll_frames_per_s", 55, "… while 10,000 rows are scrolled"),
        most("busy.filter_ms", 200, "from typing a filter to its rows", " ms"),
        most("busy.twice_over_once", 1.1, "messages when shown twice, over once", "×"),
        most("busy.cell_again_over_once", 1.1, "… when the cell is run again", "×"),
    )),
    Benchmark("panel_steering", "panel:steering", (
        most("clicks.first_click_s", 0.5, "the first click while a cell runs", " s"),
        most("clicks.second_click_s", 0.5, "… the next", " s"),
        most("clicks.stop_button_s", 2, "stop button during await run; the run goes on", " s"),
        least("engine_with_over_without", 0.95, "the engine's rate with the panel open, over without", "×"),
    )),
)  # fmt: skip


def find(names: list[str]) -> list[Benchmark]:
    """The benchmarks of these names, or all but the long ones. Raises KeyError with a name that is none."""
    known = {b.name: b for b in BENCHMARKS}
    return [known[name] for name in names] if names else [b for b in BENCHMARKS if not b.is_long]


def look_up(figures: Any, path: str) -> Any:
    """The figure at a dotted path, or None."""
    for part in path.split("."):
        if not isinstance(figures, dict):
            return None
        figures = figures.get(part)
    return figures
