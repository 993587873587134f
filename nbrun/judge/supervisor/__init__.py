"""The process that runs programs for a sandbox, under limits, and ends all of them when its kernel ends.

Started by `nbrun.judge.sandbox.runner` with `python -I -S -E`, as a package of its own that imports the standard
library alone. Why a process of its own: limits must be set between fork and exec, which a kernel of many threads and
gigabytes can't do safely or fast, and no other could end the programs once the kernel was killed.

    kernel ── socket ──> supervisor     receives one byte and a descriptor for each monitor that is needed
                           └─ monitor   runs one program at a time; gets requests and sends reports over that descriptor
                                └─ program

End of file on a monitor's descriptor means that the kernel is gone, or that it cancels the program.

A monitor is the subreaper of its program: whatever that leaves behind, in whatever session, becomes the monitor's
child and is killed with the rest.

This page imports nothing, so that the kernel can use `folders` on a system that can't run programs for a sandbox.
"""

#: A wall limit is stretched by what the program waited for a CPU, but never beyond this many times itself.
STARVED = 10
