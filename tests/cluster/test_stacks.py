"""The stack of another process, from outside."""

import subprocess
import sys

import pytest

from cluster.stacks import stack_of

HUNG = """
import time
def waits_for_ever():
    print("ready", flush=True)
    time.sleep(600)
waits_for_ever()
"""


def test_a_hung_process_shows_where_it_hangs() -> None:
    process = subprocess.Popen([sys.executable, "-c", HUNG], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        text = stack_of(process.pid, "the hung one")
    finally:
        process.kill()
        process.wait()
    if "Permission denied" in text:
        pytest.skip("this machine lets nobody trace processes")
    assert text.startswith(f"==== the hung one (pid {process.pid})") and "waits_for_ever" in text


def test_a_process_that_is_gone_is_said_to_be() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert "waits" not in stack_of(gone.pid, "gone") and f"(pid {gone.pid})" in stack_of(gone.pid, "gone")
