"""A helper process of the loader: `python -m nbrun.frames.helper` reads files for it until its standard input ends.

A request is a line of JSON, [folder, [[name, match record or null, place or null], …]]; the answer is a pack (see
packing.py), preceded by its length in 8 bytes, big endian. Started only by parallel.py; never by multiprocessing, which
would run an unguarded script of the user's again.
"""

from __future__ import annotations

import gc
import sys

import orjson

from nbrun.frames.file_reader import read_files


def main() -> None:
    """Serves one loader."""
    gc.disable()  # parsed JSON has no cycles
    out = sys.stdout.buffer
    for line in sys.stdin.buffer:
        folder, files = orjson.loads(line)
        parts = read_files(folder, files).to_parts()
        out.write(sum(map(len, parts)).to_bytes(8, "big"))
        out.writelines(parts)
        out.flush()


if __name__ == "__main__":
    main()
