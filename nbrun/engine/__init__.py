"""Which task next, who runs it, retries, pause, stop. Knows storage only as a model.ResultSink."""

from nbrun.engine.crew import Crew
from nbrun.engine.engine import Engine
from nbrun.engine.loop import LoopCrew
from nbrun.engine.threads import ThreadCrew

__all__ = ["Crew", "Engine", "LoopCrew", "ThreadCrew"]
