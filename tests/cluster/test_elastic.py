"""A node that is told to leave is seen before it goes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cluster.conftest import ROOT, environment


@pytest.mark.stack
def test_a_node_that_is_told_to_leave_is_listed_with_its_deadline() -> None:
    command = [sys.executable, "-m", "tests.cluster.draining"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
