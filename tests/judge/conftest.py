"""A sandbox with tight limits, which leaves nothing behind, and a service with four ports, each for one module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fusion_helpers import Service
from judge_helpers import is_up, processes_of, root_of

from nbrun.judge import LocalSandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[LocalSandbox]:
    box = LocalSandbox(time_limit_s=0.5, memory_limit_mb=192, output_limit_mb=1)
    yield box
    root = root_of(box) if is_up(box) else None
    box.close()
    if root is not None:
        assert not root.exists()
        assert not processes_of(root)


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    service = Service(4)
    yield service
    service.close()
