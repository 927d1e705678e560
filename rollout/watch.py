"""EngineWatch: sees engines that died, broke or hung, restarts them, and gives them the weights of the others."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from rollout.pool import EnginePool

logger = logging.getLogger(__name__)


@dataclass
class _Question:
    """A call of `health` that is under way."""

    reference: Any
    asked_at: float = field(default_factory=time.monotonic)


class EngineWatch:
    """Looks after a pool in a thread of its own; `check` is one round.

    An engine counts as hung when it owes an answer to `health`, or to any of its requests, for
    ``request_timeout_s``. One that Ray restarted has old weights and refuses to sample until it is revived.
    """

    def __init__(self, pool: EnginePool, every_s: float = 2.0) -> None:
        self._pool, self._every_s = pool, every_s
        self._questions: dict[int, _Question] = {}
        self._down: set[int] = set()
        self.events: list[str] = []  # what happened, for the log and the status
        self.restarts = 0
        self.on_hang: Callable[[str], None] = lambda reason: None  # called before a hung engine is ended
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine-watch", daemon=True)

    @property
    def up(self) -> int:
        """Engines that are there and not known to be down."""
        return sum(self._pool.here(index) and index not in self._down for index in range(len(self._pool.handles)))

    def start(self) -> EngineWatch:
        """Begin to watch."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            self.check()

    def check(self) -> None:
        """One look at every engine; nothing while an update is on its way: that restarts by itself what fails."""
        if not self._pool.lock.acquire(blocking=False):
            self._questions.clear()  # what was asked before says nothing of after
            return
        try:
            for index in range(len(self._pool.handles)):
                if self._pool.here(index):
                    self._check_one(index)
        finally:
            self._pool.lock.release()

    def _check_one(self, index: int) -> None:
        question = self._questions.setdefault(index, _Question(self._pool.handles[index].health.remote()))
        limit = self._pool.config.request_timeout_s
        try:
            health = ray.get(question.reference, timeout=0)
        except GetTimeoutError:
            if index not in self._down and time.monotonic() - question.asked_at > limit:
                self._end_hung(index, f"no sign of life for {limit:g} s")
            return
        except RayError as error:
            del self._questions[index]
            self._note_loss(index, type(error).__name__)
            return
        del self._questions[index]
        self._judge(index, health, limit)

    def _judge(self, index: int, health: dict[str, Any], limit: float) -> None:
        if health["fault"] is not None:
            self._restart(index, health["fault"])
        elif health["silent_s"] > limit:
            self._end_hung(index, f"no request answered for {limit:g} s")
        elif health["waits"]:
            self._welcome(index)

    def _welcome(self, index: int) -> None:
        late = index >= self._pool.config.count
        if not late:
            self._note_death(index, "it was restarted")
        if (reason := self._pool.revive(index)) is None:
            self._down.discard(index)
            self._note(index, "has joined" if late else "is back with the current weights")
        else:
            logger.warning("%s is not back yet: %s", self._pool.names[index], reason)

    def _end_hung(self, index: int, reason: str) -> None:
        self.on_hang(f"{self._pool.names[index]}: {reason}")
        self._restart(index, reason)

    def _restart(self, index: int, reason: str) -> None:
        self._note_death(index, reason)
        self._questions.pop(index, None)
        self._pool.kill(index)

    def _note_loss(self, index: int, reason: str) -> None:
        if index < self._pool.config.count:
            self._note_death(index, reason)
            return
        self._pool.leave(index)
        self._down.discard(index)
        self._note(index, f"has left: {reason}")

    def _note_death(self, index: int, reason: str) -> None:
        if index not in self._down:
            self._down.add(index)
            self.restarts += 1
            self._note(index, f"is being restarted: {reason}")

    def _note(self, index: int, what: str) -> None:
        self.events.append(f"{self._pool.names[index]} {what}")
        logger.warning("%s %s", self._pool.names[index], what)
