"""SIGKILL and power cuts at random moments: nothing saved is lost or doubled, and the run can always go on."""

import os
import time

import kills
import pytest

pytestmark = pytest.mark.long

#: `python tests/storage/kills.py 1000` takes some minutes; its figures are committed with the benchmarks.
KILLS = 100


def test_a_hundred_kills_lose_nothing():
    figures = kills.main(KILLS, int(os.environ.get("NBRUN_SEED", time.time_ns() % 10**6)))
    assert figures["kills"] == KILLS, "it ended too early"
