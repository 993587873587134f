"""SandboxFusion: a function for `nbrun.start` that judges solutions on a pool of SandboxFusion servers."""

from nbrun.judge.fusion.judge import SandboxFusion

__all__ = ["SandboxFusion"]
