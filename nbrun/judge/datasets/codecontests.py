"""CodeContests, the data set for whose solutions this project was made, and its two successors."""

from __future__ import annotations

from nbrun.judge.datasets.shape import Shape

#: The columns of a row with sets of tests.
SETS = ("public_tests", "private_tests", "generated_tests")

#: Tests are structs of lists, a limit is `{"seconds", "nanos"}`, file names are empty for the standard streams.
CODECONTESTS = Shape(
    "CodeContests",
    "https://huggingface.co/datasets/deepmind/code_contests",
    sets={name: (name,) for name in ("tests", "test", *SETS)},
    needs=tuple((name,) for name in SETS),
    files={"input": ("input_file",), "output": ("output_file",)},
)
#: Limits are in milliseconds and megabytes, the checker is a program in C++ with testlib.
PLUS = Shape(
    "CodeContests+",
    "https://huggingface.co/datasets/ByteDance-Seed/Code-Contests-Plus",
    sets={"tests": ("test_cases",)},
    needs=(("test_cases", "correct_submissions"), ("test_cases", "incorrect_submissions"), ("correct_submissions",)),
    solutions=("correct_submissions",),
    incorrect_solutions=("incorrect_submissions",),
    unit_s=1e-3,
    ids=("id", "name", "title"),
)
#: Tests are in SandboxFusion's form. The solutions are in the row of CodeContests; users join them.
O = Shape(  # noqa: E741  # its name
    "CodeContests-O",
    "https://huggingface.co/datasets/caijanfeng/CodeContests-O, https://github.com/cai-jianfeng/CodeContests-O",
    sets={"tests": ("corner_cases",)},
)
