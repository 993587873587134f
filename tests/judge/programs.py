"""Small programs of every kind, well-behaved and not: name -> language, source, and the right verdict.

The problem is `judge_helpers.SUM`; the limits are 0.5 s, 192 MiB, and 1 MiB of output. All of them end by themselves
within minutes.
"""

from __future__ import annotations

import sys

from judge_helpers import SUM_CPP, SUM_PY

PROGRAMS = {
    "right": ("PYTHON3", SUM_PY, "Accepted"),
    "right in C++": ("CPP", SUM_CPP, "Accepted"),
    "wrong": ("PYTHON3", "print(3)", "WrongAnswer"),
    "silent": ("PYTHON3", "", "WrongAnswer"),
    "syntax error": ("PYTHON3", "def f(:\n", "CompileError"),
    "bad indentation": ("PYTHON3", "if 1:\nprint(1)", "CompileError"),
    "NUL in the source": ("PYTHON3", "print(1)\0", "CompileError" if sys.version_info >= (3, 11, 4) else "WrongAnswer"),
    "lone surrogate in the source": ("PYTHON3", "print('\ud800')", "CompileError"),
    "syntax error inside eval": ("PYTHON3", "eval('1 +')", "RuntimeError"),
    "does not compile": ("CPP", "int main() { return x; }", "CompileError"),
    "raises": ("PYTHON3", "1 / 0", "RuntimeError"),
    "exit code 3": ("PYTHON3", SUM_PY + "raise SystemExit(3)", "RuntimeError"),
    "segfault": ("CPP", "int main() { volatile int *p = nullptr; *p = 1; }", "RuntimeError"),
    "aborts": ("CPP", "#include <cstdlib>\nint main() { std::abort(); }", "RuntimeError"),
    "kills itself": ("PYTHON3", "import os; os.kill(os.getpid(), 9)", "RuntimeError"),
    "busy loop": ("PYTHON3", "while True: pass", "TimeLimitExceeded"),
    "busy loop in C++": ("CPP", "int main() { for (volatile int i = 0;; i = i + 1) {} }", "TimeLimitExceeded"),
    "busy in a child": (
        "PYTHON3", "import os\nif os.fork() == 0:\n    while True: pass\nos.wait()", "TimeLimitExceeded",
    ),
    "busy in two threads": (
        "CPP", "#include <thread>\nvoid f() { for (volatile int i = 0;; i = i + 1) {} }\n"
        "int main() { std::thread a(f), b(f); a.join(); }", "TimeLimitExceeded",
    ),
    "late but right": ("PYTHON3", SUM_PY + "\nfor _ in range(10**9): pass", "TimeLimitExceeded"),
    "sleeps": ("PYTHON3", "import time; time.sleep(60)", "TimeLimitExceeded"),
    "stops itself": ("PYTHON3", "import os; os.kill(os.getpid(), 19)", "TimeLimitExceeded"),
    "ignores polite signals": (
        "PYTHON3", "import signal, time\nfor s in (1, 2, 3, 15, 24): signal.signal(s, signal.SIG_IGN)\nwhile 1: pass",
        "TimeLimitExceeded",
    ),
    "takes memory": ("PYTHON3", "x = [bytearray(b'x' * 2**20) for _ in range(2000)]", "MemoryLimitExceeded"),
    "asks for too much": ("PYTHON3", "x = bytearray(8 << 30)", "MemoryLimitExceeded"),
    "new fails": ("CPP", "#include <vector>\nint main() { std::vector<long> v(1ll << 34); }", "MemoryLimitExceeded"),
    "memory in children": (
        "PYTHON3", "import os, time\nfor _ in range(4):\n    if os.fork() == 0:\n        x = b'x' * (80 << 20)\n"
        "        time.sleep(60)\nfor _ in range(4): os.wait()", "MemoryLimitExceeded",
    ),
    "floods stdout": ("PYTHON3", "while True: print('x' * 10000)", "OutputLimitExceeded"),
    "floods stderr": ("PYTHON3", "import sys\nwhile True: sys.stderr.write('x' * 10000)", "OutputLimitExceeded"),
    "floods stdout in C++": (
        "CPP", '#include <cstdio>\nint main() { for (;;) std::puts("x"); }', "OutputLimitExceeded",
    ),
    "one huge file": (
        "CPP", '#include <cstdio>\nint main() { FILE *f = std::fopen("f", "w"); for (;;) std::fputs("xxxxxxxx", f); }',
        "OutputLimitExceeded",
    ),
    "many files": (
        "PYTHON3", "import time\nfor i in range(300): open(str(i), 'w').write('x' * 50000)\ntime.sleep(60)",
        "OutputLimitExceeded",
    ),
    "closes its streams": (
        "PYTHON3", SUM_PY + "import os\nos.sys.stdout.flush()\nfor i in (0, 1, 2): os.close(i)", "Accepted",
    ),
    "closes stdin at once": ("PYTHON3", "import os; os.close(0); print(3)", "WrongAnswer"),
    "leaves a child behind": (
        "PYTHON3", SUM_PY + "import os, sys, time\nsys.stdout.flush()\nif os.fork() == 0:\n    os.setsid()\n"
        "    if os.fork() == 0: time.sleep(60)\n    os._exit(0)", "Accepted",
    ),
    "many threads": (
        "PYTHON3", "import threading as t\nts = [t.Thread(target=int) for _ in range(50)]\n"
        "for x in ts: x.start()\nfor x in ts: x.join()\n" + SUM_PY, "Accepted",
    ),
    "deep recursion": (
        "CPP", "#include <cstdio>\n"
        "long f(long n) { volatile char pad[64]; pad[0] = 1; return n ? f(n - 1) + pad[0] : 0; }\n"
        'int main() { int a, b; std::scanf("%d %d", &a, &b); if (f(800000) == 800000) std::printf("%d\\n", a + b); }',
        "Accepted",
    ),
    "sees an empty folder": (
        "PYTHON3", "import os\nif os.listdir('.') == [] and len(os.environ) < 9: " + SUM_PY, "Accepted",
    ),
    "sees no terminal": (
        "PYTHON3", "import os\nif not os.isatty(0) and os.getsid(0) <= os.getpid(): " + SUM_PY, "Accepted",
    ),
}  # fmt: skip
