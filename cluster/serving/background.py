"""Reading in the background: one task per session, and a watch for documents that some dead replica left behind."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from cluster.serving.database import Database
from cluster.serving.document_rows import abandoned
from cluster.serving.errors import DatabaseDown, Refusal, refusals
from cluster.serving.repository import Repository
from cluster.serving.schemas import Commit

logger = logging.getLogger(__name__)

ReadNext = Callable[[Repository, str], Awaitable[Commit | None]]


class Background:
    """Reads sessions' documents without a listener.

    What fails is logged and left as it is: the watch takes it up again after `resume_after_s` without progress.
    """

    def __init__(self, read_next: ReadNext, resume_after_s: float, database: Database) -> None:
        self._read_next, self._resume_after_s, self._database = read_next, resume_after_s, database
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, repository: Repository, session_id: str) -> None:
        """Read until the session has nothing pending; does nothing while that is under way here."""
        if session_id not in self._tasks:
            task = asyncio.create_task(self._drain(repository, session_id))
            self._tasks[session_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(session_id, None))

    async def watch(self) -> None:
        """Look for abandoned documents for ever."""
        while True:
            try:
                for row in await abandoned(self._database, time.time() - self._resume_after_s):
                    self.start(Repository(self._database, row.tenant), row.id)
            except DatabaseDown as error:
                logger.warning("background documents: %s", error)
            await asyncio.sleep(self._resume_after_s / 3)

    async def _drain(self, repository: Repository, session_id: str) -> None:
        try:
            with refusals():
                while await repository.next_chunk(session_id) is not None:
                    await self._read_next(repository, session_id)
        except Refusal as error:
            logger.warning("background documents of session %s: %s", session_id, error.detail)
