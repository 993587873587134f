"""Runs programs under limits and, where it works, in a box: what `nbrun.judge.LocalSandbox` is built of.

Here is the kernel's side; the processes that watch the programs are `nbrun.judge.supervisor`.
"""
