"""Which task next, worker threads, retries, pause, stop. Knows storage only as a model.ResultSink."""

from nbrun.engine.engine import Engine

__all__ = ["Engine"]
