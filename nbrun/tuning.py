"""The numbers that say when nbrun does something, and how much at a time: waits, sizes and bounds that tests change.

They are no options: a user has no reason to change one, and none is read from a file or from the environment. A number
that no test needs is a constant of its module. A test sets some of them with the fixture `tuning`, which restores them;
a program that a test starts sets them first: `from nbrun.tuning import TUNING; TUNING.segment_bytes = 900`.

Threads: every thread reads `TUNING`, none writes to it; there is no lock. Each number is read where it is used, so that
a changed one counts from then on.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Tuning:
    """All of these numbers, with nbrun's own values. Setting a name that isn't one of them raises AttributeError."""

    # ---- saving: storage/journal.py

    #: Group commit: a result that arrives while the journal is idle is saved at once, unless the last commit was less
    #: than this ago. Then the next commit waits until this has passed or `group_results` results are unsaved. The wait
    #: lets one fsync serve all workers, and is a small part of the 50 ms that saving a result may take.
    group_s: float = 0.006
    group_results: int = 400
    #: A segment of this size takes no more records.
    segment_bytes: int = 64 << 20
    #: The most results that may be unsaved: what a power cut may cost.
    max_unsaved: int = 1000

    # ---- writing samples' files: storage/compactor.py, journal.py, sample_state.py, store.py

    #: The file of a sample at work is written this long after the first result that it lacks, or after `cost_ratio`
    #: times what the last writing took, whichever is later: so writing takes under 5 % of the time, and the runbook's
    #: commands are at most 30 s late.
    stale_s: float = 20.0
    cost_ratio: float = 20.0
    #: How often an idle thread looks for such samples.
    stale_look_s: float = 2.0
    #: The least results that go straight to a sample's file: for fewer, the file costs more than their part of the
    #: journal.
    direct_from: int = 50
    #: Where a disk takes longer for the files of one commit, the next ones go through the journal for a while.
    direct_slow_s: float = 0.02
    #: How much of a sample's old file is copied at a time when it is written again.
    copy_bytes: int = 1 << 20
    #: Of a larger group no list of keys in hexadecimal digits is kept, which takes 50 bytes a key.
    max_hex_keys: int = 50_000
    #: Files with this many entries get an index. Opening a smaller one takes less than 40 ms without.
    index_from: int = 5_000
    #: For how many items an index holds one digest. It is not written there: with another value the old indexes are
    #: not used, and made again.
    index_block: int = 1_024
    #: How often a run looks at the disk's free space.
    space_look_s: float = 30.0

    # ---- reading: results/plain_files.py, replay.py, follow.py, listing.py

    #: A file, or a line of a log, with more bytes is not read at once: nbrun can't have written it, and it may not fit
    #: in memory.
    max_whole_bytes: int = 4 << 30
    #: How much of a log is read at a time.
    log_chunk_bytes: int = 1 << 20
    #: A folder whose time of change is younger than this may change again without showing it; it is listed again.
    settled_ns: int = 2_000_000_000
    #: Where every second one of this many files is waited for, threads read the others ahead.
    read_ahead_look: int = 100

    # ---- running tasks: engine/

    #: The fewest tasks that a worker takes together, if they are ready. It takes more where tasks turn out to be short.
    min_batch_tasks: int = 1
    #: How long a stop at once waits for tasks to notice.
    abandon_after_s: float = 5.0
    #: About how many bytes of samples with errors are kept in memory, so that the errors can be tried again.
    kept_error_bytes: int = 64 << 20
    #: How often `fn.is_available()` is called.
    ask_every_s: float = 1.0
    #: For this long, failed attempts are not counted once many connections in a row have failed.
    outage_s: float = 30.0
    #: Tiny tasks run on one worker. All work again once a single task has kept it busy for this long.
    solo_stuck_s: float = 0.02
    #: A task that has run for less is never reported as long.
    long_task_s: float = 3.0
    #: How long a coroutine may take to end after it was cancelled at its time-out.
    cancel_s: float = 1.0
    #: After this long without an answer, or three times the longest task, the run reports that its executor is silent.
    executor_silent_s: float = 60.0
    #: How often a run looks whether its executor is silent.
    executor_look_s: float = 1.0

    # ---- starting a run: session/

    #: How long a run that is stopped waits for the thread that reads samples, if that hangs in the user's iterator.
    feeder_leave_s: float = 0.5
    #: Items of a list are checked before anything runs, for at most this much CPU time but those of a hundred samples
    #: anyway. The others are checked when they are read, before their tasks run.
    check_items_s: float = 0.001

    # ---- loading a directory into a DataFrame: frames/load.py, loader.py, rows.py

    #: iter_results reads this many bytes of files at a time, and a quarter of it where it keeps the entries.
    stride_bytes: int = 64 << 20
    #: Reading less than this again is as fast as caching it.
    cache_from_bytes: int = 1 << 20
    #: How coarse the clock of a file system with fractions of a second may be.
    fine_clock_ns: int = 50_000_000
    #: The line that shows the progress of reading appears after this long.
    progress_line_after_s: float = 2.0
    #: A helper process for each of these pays: it saves more than its start takes (about 0.1 s).
    bytes_a_helper: int = 48 << 20
    #: A helper gets at least this much at a time.
    min_batch_bytes: int = 1 << 19

    # ---- judging: judge/kattis_package.py, checkers.py, datasets/livecodebench.py, fusion/

    #: The most files, and bytes of them, that are extracted from the archive of a package.
    package_max_files: int = 100_000
    package_max_bytes: int = 2 << 30
    #: The limits of a program that judges an answer or a test's input.
    validator_time_limit_s: float = 60.0
    validator_memory_limit_mb: float = 2048.0
    #: The largest size of one problem's decompressed tests.
    livecodebench_max_bytes: int = 1 << 29
    #: How long an endpoint of SandboxFusion may take to answer a ping.
    ping_s: float = 2.0
    #: For how long an endpoint that failed gets no request at first; each further failure doubles it.
    cooldown_s: float = 1.0


TUNING = Tuning()
