"""Which checkpoint is to be served: rows in the database, which every engine replica follows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from cluster.serving.database import Database
from cluster.serving.tables import deployments


class Deployments:
    """A checkpoint's version is its row's number. One is wanted at a time: the latest that was not refused."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, checkpoint: str) -> Row[Any]:
        """Ask for a checkpoint."""
        async with self._database.write() as connection:
            return await _insert(connection, checkpoint, configured=False)

    async def first(self, checkpoint: str) -> Row[Any]:
        """What an engine starts with: `checkpoint`, if the configuration names it for the first time, else the one
        that is being served (a pending one is loaded after the start, when it can still be refused)."""
        async with self._database.write() as connection:
            configured = _LATEST.where(deployments.c.configured)
            row = (await connection.execute(configured)).one_or_none()
            if row is None or row.checkpoint != checkpoint:
                return await _insert(connection, checkpoint, configured=True)
            active = _LATEST.where(deployments.c.state == "active")
            return (await connection.execute(active)).one_or_none() or row

    async def wanted(self) -> Row[Any] | None:
        """The latest that was not refused."""
        async with self._database.read() as connection:
            return (await connection.execute(_LATEST.where(deployments.c.state != "refused"))).one_or_none()

    async def settle(self, version: int, state: str, reason: str | None = None) -> None:
        """A replica serves it ("active"; the ones before are replaced), or cannot ("refused", which is final)."""
        row, older = deployments.c.version == version, deployments.c.version < version
        async with self._database.write() as connection:
            not_refused = deployments.c.state != "refused"
            settled = update(deployments).where(row & not_refused).values(state=state, reason=reason)
            done = await connection.execute(settled)
            if state == "active" and done.rowcount:
                await connection.execute(update(deployments).where(older & not_refused).values(state="replaced"))

    async def all(self) -> Sequence[Row[Any]]:
        """In order of version."""
        async with self._database.read() as connection:
            return (await connection.execute(select(deployments).order_by(deployments.c.version))).all()


_LATEST = select(deployments).order_by(deployments.c.version.desc()).limit(1)


async def _insert(connection: AsyncConnection, checkpoint: str, configured: bool) -> Row[Any]:
    values = {"checkpoint": checkpoint, "configured": configured, "state": "pending", "created_at": time.time()}
    return (await connection.execute(insert(deployments).values(values).returning(deployments))).one()
