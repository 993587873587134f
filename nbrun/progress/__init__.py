"""How a run stands: counters (board), immutable snapshots of them, and the words for rates, times and ends."""

from __future__ import annotations

from nbrun.progress.board import Board
from nbrun.progress.snapshot import ErrorKind, ErrorNote, LogNote, Mean, Progress, SampleProgress
from nbrun.progress.wording import (
    bytes_text,
    count_text,
    counted,
    duration_text,
    end_text,
    eta_text,
    percent_text,
    quality_texts,
    rate_text,
    time_text,
)

__all__ = [
    "Board",
    "ErrorKind",
    "ErrorNote",
    "LogNote",
    "Mean",
    "Progress",
    "SampleProgress",
    "bytes_text",
    "count_text",
    "counted",
    "duration_text",
    "end_text",
    "eta_text",
    "percent_text",
    "quality_texts",
    "rate_text",
    "time_text",
]
