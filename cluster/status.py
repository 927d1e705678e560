"""`status.json`: what a run is doing, who is alive, what failed. The run writes it, `atommem status` reads it."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cluster.rundir import RunDir, write_text

BEAT_S = 2.0
STALE_S = 30.0  # no beat for so long: the driver is gone
RECENT = 20  # events kept
ASK = "dump-stacks"  # a file of this name in the run's directory asks for the stacks of all processes


@dataclass
class Status:
    """One beat. Times are seconds since the epoch."""

    phase: str = "starting"
    step: int = 0
    iterations: int = 0
    since: float = field(default_factory=time.time)  # of the phase
    beat: float = field(default_factory=time.time)
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    alive: dict[str, str] = field(default_factory=dict)  # kind -> "2 of 2"
    last: dict[str, float] = field(default_factory=dict)  # some figures of the last iteration
    events: list[str] = field(default_factory=list)

    @property
    def is_stale(self) -> bool:
        """Whether the run has stopped writing without saying that it ended."""
        return not self.phase.startswith(("ended", "stopped")) and time.time() - self.beat > STALE_S


def read_status(run: Path) -> Status | None:
    """The last beat; None when the run never wrote one."""
    path = run / "status.json"
    return Status(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


class Heartbeat:
    """Writes the status of a run every few seconds, from a thread; a context manager.

    Args:
        run: the run's directory.
        iterations: that it is to make.
    """

    def __init__(self, run: RunDir, iterations: int) -> None:
        self._run = run
        self.status = Status(iterations=iterations)
        self.alive: Callable[[], dict[str, str]] = dict  # who is there; set once the run has started
        self.events: Callable[[], list[str]] = list
        self.dump: Callable[[Path], Path] | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="heartbeat", daemon=True)

    def enter(self, phase: str, step: int) -> None:
        """The run turns to something else."""
        self.status.phase, self.status.step, self.status.since = phase, step, time.time()

    def finished(self, row: dict[str, Any]) -> None:
        """An iteration's row."""
        keys = ("reward/mean", "em", "speed/output_tokens_per_s", "time/total")
        self.status.last = {key: float(row[key]) for key in keys if key in row}

    def beat(self) -> None:
        """Write the status once, and the stacks when someone has asked for them."""
        self.status.beat, self.status.alive = time.time(), self.alive()
        self.status.events = self.events()[-RECENT:]
        write_text(self._run.path / "status.json", json.dumps(asdict(self.status), indent=1))
        asked = self._run.path / ASK
        if self.dump is not None and asked.exists():
            asked.unlink()
            self.dump(self._run.path / "logs")

    def _beat_on(self) -> None:
        while not self._stopped.wait(BEAT_S):
            with suppress(OSError):  # a full disk is the run's to report, not the heartbeat's
                self.beat()

    def __enter__(self) -> Heartbeat:
        self.beat()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._stopped.set()
        self._thread.join()
        self.alive = dict
        self.enter("ended" if error is None else f"stopped: {error or kind}", self.status.step)
        with suppress(OSError):
            self.beat()
