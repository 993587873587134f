"""Measures what the project promises: `python -m tests.benchmarks [NAME ...]`.

Each module of this folder has `main() -> dict` that returns its figures; they are printed and kept in
figures/NAME.json,
with the machine they were taken on. Speeds are ratios to something measured in the same run: machines differ.
"""

import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
NAMES = sorted(p.stem for p in HERE.glob("*.py") if not p.stem.startswith("_"))


def main(names: list[str]) -> None:
    """Runs the named benchmarks, or all."""
    unknown = sorted({*names} - {*NAMES})
    if unknown:
        sys.exit(f"No benchmark is called {', '.join(unknown)}. There are: {', '.join(NAMES)}.")
    for name in names or NAMES:
        began = time.perf_counter()
        figures = importlib.import_module(f"tests.benchmarks.{name}").main()
        record = {
            "figures": figures,
            "took_s": round(time.perf_counter() - began, 1),
            "load": round(os.getloadavg()[0], 1),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "day": time.strftime("%Y-%m-%d"),
        }
        text = json.dumps(record, indent=2, ensure_ascii=False)
        print(f"{name} {text}")
        folder = HERE / "figures"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
