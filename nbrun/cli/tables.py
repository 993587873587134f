"""`nbrun rates` and `nbrun compare`: tables of how well solutions were judged. Each prints text, or JSON.

Runs in the main thread. pandas is loaded by the commands that need it.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbrun.cli.command import add_directory, add_parser, counts_of
from nbrun.errors import InputError
from nbrun.texts import escape_control_chars

if TYPE_CHECKING:
    import pandas as pd

#: Columns of the table that are shown only where something in them is not 0.
_TROUBLES = ("n_judge_errors", "n_errors", "n_undecided", "n_missing")


def add_commands(commands: Any) -> None:
    """Add the commands to a parser's subcommands."""
    rates = add_parser(
        commands,
        "rates",
        _rates,
        "how many correct solutions were accepted and incorrect ones rejected",
        about="Print one row for each sample: tpr is the share of correct solutions that were accepted, tnr the share "
        "of incorrect ones that were rejected. Failures of the judge, errors and missing tasks are counted in columns "
        "of their own, which are shown where one of them is not 0.",
        examples=(
            "nbrun rates results",
            "nbrun rates results --by language",
            "nbrun rates results --by sample_id,language --json",
            "nbrun rates results --by all --average macro",
        ),
    )
    add_directory(rates)
    rates.add_argument(
        "--by",
        metavar="COLUMNS",
        help="columns of the results to group by, separated by commas; all prints one row (default: sample_id)",
    )
    rates.add_argument(
        "--average",
        choices=("micro", "macro"),
        default="micro",
        help="micro counts every solution alike, macro takes the mean of the samples' rates (default: micro)",
    )
    compare = add_parser(
        commands,
        "compare",
        _compare,
        "compare the verdicts of several runs",
        about="Print the rates of several runs side by side, over the tasks that all of them have judged, which "
        "verdicts differ, and whether the difference can be chance (McNemar's test).",
        examples=("nbrun compare old new", "nbrun compare old new newest --by language"),
    )
    add_directory(compare, several=True)
    compare.add_argument(
        "--by",
        metavar="COLUMNS",
        default="all",
        help="columns to group by, separated by commas (default: all, one row)",
    )


def _columns(text: str | None) -> list[str] | None:
    """--by: names, set apart by commas; "all" groups by nothing."""
    if text is None:
        return ["sample_id"]
    return None if text == "all" else [name.strip() for name in text.split(",")]


def _rates(args: argparse.Namespace) -> int:
    counts_of(args.results)
    print_rates(args.results, as_json=args.json, by=_columns(args.by), average=args.average)
    return 0


def print_rates(
    results: str,
    *,
    as_json: bool = False,
    by: list[str] | None = ["sample_id"],  # noqa: B006 - never changed
    average: str = "micro",
) -> None:
    """Print the table of rates, for a terminal or as JSON."""
    from nbrun.frames import rates

    table = _made(rates, results, by=by, average=average)
    if as_json:
        print(table.to_json(orient="records"))
    elif table.empty:
        print("No task has ended yet.")
    else:
        troubles = [name for name in _TROUBLES if table[name].fillna(0).any()]
        print(_text(table[[*(by or ()), "tpr", "tnr", "n_positive", "n_negative", *troubles]]))


def _compare(args: argparse.Namespace) -> int:
    from nbrun.frames import compare, confusion, load_results, mcnemar
    from nbrun.frames.run_comparison import LOADED

    if len(args.results) < 2:
        raise InputError("compare takes two directories or more.")
    for path in args.results:
        counts_of(path)
    names = dict(zip(_names(args.results), args.results, strict=True))
    runs = {name: load_results(path, columns=LOADED) for name, path in names.items()}
    table, tests = _made(compare, runs, by=_columns(args.by)), mcnemar(runs)
    flips = confusion(runs) if len(runs) == 2 else None
    if args.json:
        out = {"rates": _records(table), "mcnemar": _records(tests)}
        if flips is not None:
            out["confusion"] = [
                {"first": a, "second": b, "n": int(n)} for a, row in flips.iterrows() for b, n in row.items() if n
            ]
        print(json.dumps(out))
        return 0
    print(_text(table if args.by != "all" else _upright(table)))
    if flips is not None:
        print(f"\nVerdicts: rows {flips.index.name}, columns {flips.columns.name}")
        print(flips.rename_axis(index=None, columns=None).to_string())
    print("\nMcNemar's test; p_value takes tasks for independent, p_value_samples takes samples")
    print(_text(_upright(tests) if len(tests) == 1 else tests))
    return 0


def _names(paths: list[str]) -> list[str]:
    """Return the shortest ends of the paths that distinguish them."""
    parts = [Path(os.path.abspath(os.path.expanduser(p))).parts for p in paths]
    for n in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-n:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    raise InputError("compare: one directory is given twice.")


def _upright(table: pd.DataFrame) -> pd.DataFrame:
    """One row of many columns, as many rows."""
    import pandas as pd

    texts = [f"{v:.3g}" if isinstance(v, float) else str(v).replace("<NA>", "-") for v in table.iloc[0].tolist()]
    return pd.DataFrame({"": list(table.columns), " ": texts})


def _made(function: Callable[..., pd.DataFrame], *args: Any, **named: Any) -> pd.DataFrame:
    """Return a table. Raise an InputError for a column that isn't there."""
    try:
        return function(*args, **named)
    except TypeError as e:
        if "lacks the column" in str(e):
            raise InputError(str(e).replace("the frame lacks", "these results lack").split(";")[0] + ".") from None
        raise


def _text(table: pd.DataFrame) -> str:
    """Return a table for a terminal, in which no sample's id can act as a control sequence."""
    texts = {
        name: [escape_control_chars(v).replace("\n", "␊") if isinstance(v, str) else v for v in table[name]]
        for name in table.columns
        if not hasattr(table[name].dtype, "numpy_dtype") and table[name].dtype.kind == "O"
    }
    return table.assign(**texts).to_string(index=False, na_rep="-", float_format="{:.3f}".format, max_colwidth=40)


def _records(table: pd.DataFrame) -> Any:
    return json.loads(table.to_json(orient="records"))
