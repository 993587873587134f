"""The process that runs programs for a sandbox, under limits, and ends all of them when its kernel ends.

Started by `nbrun.judge.running` with `python -I -S -E`, as a package of its own that imports the standard library
alone; nothing here runs in the kernel. Why a process of its own: limits must be set between fork and exec, which a
kernel of many threads and gigabytes can't do safely or fast, and no other could end the programs once the kernel was
killed.

    kernel ── socket ──> warden            one byte and a descriptor for each supervisor that is needed
                           └─ supervisor   one for each program that runs: takes requests and gives reports over that
                                └─ program descriptor; end of file there means: the kernel is gone, or cancels

A supervisor is the subreaper of its program: whatever that leaves behind, in whatever session, becomes the supervisor's
child and is killed with the rest.

This page imports nothing, so that the kernel can use `folders` on a system that can't run programs for a sandbox.
"""

#: A wall limit is stretched by what the program waited for a CPU, but never beyond this many times itself.
STARVED = 10
