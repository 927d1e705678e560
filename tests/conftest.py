"""Fixtures that several folders' tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A Ray of our own, whatever else runs on the machine; its workers can import the repository."""
    import ray

    root = str(Path(__file__).parents[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_AUTH_MODE", "disabled")
        ray.init(
            num_cpus=4,  # logical: what the tests start at the same time
            include_dashboard=False,
            object_store_memory=200_000_000,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": root}},
        )
        yield
        ray.shutdown()
