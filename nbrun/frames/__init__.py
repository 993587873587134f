"""Results as DataFrames: load_results, load_samples, rates; and status, which needs no frame. Reads only."""

from nbrun.frames.load import load_results, load_samples
from nbrun.frames.rating import rates
from nbrun.frames.state import Status, status

__all__ = ["Status", "load_results", "load_samples", "rates", "status"]
