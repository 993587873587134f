"""SandboxFusion: the `fn` that has solutions judged by a pool of SandboxFusion servers."""

from nbrun.judge.fusion.judge import SandboxFusion

__all__ = ["SandboxFusion"]
