"""All queries of sessions, in one tenant's name. A repository is made for a tenant and can reach no other's rows.

Whatever is read or written goes through `_of` (rows of a session of this tenant) or `_mine` (the session itself).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, delete, func, insert, literal, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from cluster.serving.database import Database
from cluster.serving.errors import Moved, NotFound, TooMany
from cluster.serving.tables import changes, chunks, commits, documents, entries, sessions

_COPIED = (documents, chunks, entries, commits, changes)


class SessionRows:
    """Sessions of one tenant, and the scope of everything else."""

    def __init__(self, database: Database, tenant: str) -> None:
        self._db, self.tenant = database, tenant

    def _mine(self, session_id: str) -> ColumnElement[bool]:
        return (sessions.c.id == session_id) & (sessions.c.tenant == self.tenant)

    def _of(self, table: Table, session_id: str) -> ColumnElement[bool]:
        return table.c.session_id == select(sessions.c.id).where(self._mine(session_id)).scalar_subquery()

    async def create_session(self, name: str, options: Mapping[str, Any], limit: int) -> Row[Any]:
        """A new session. Raises TooMany beyond `limit` sessions."""
        now = time.time()
        values = {
            "id": uuid.uuid4().hex, "tenant": self.tenant, "name": name, "options": dict(options), "version": 0,
            "entries": 0, "documents": 0, "scratchpad": "", "next_id": 1, "discarded": 0, "created_at": now,
            "updated_at": now,
        }  # fmt: skip
        async with self._db.write() as connection:
            await self._room_for_one(connection, limit)
            return (await connection.execute(insert(sessions).values(values).returning(sessions))).one()

    async def _room_for_one(self, connection: AsyncConnection, limit: int) -> None:
        count = select(func.count()).select_from(sessions).where(sessions.c.tenant == self.tenant)
        if (await connection.execute(count)).scalar_one() >= limit:
            raise TooMany(f"this tenant has {limit} sessions, which is the limit: delete some")

    async def session(self, session_id: str) -> Row[Any]:
        """Raises NotFound."""
        async with self._db.read() as connection:
            return await self._session(connection, session_id)

    async def _session(self, connection: AsyncConnection, session_id: str) -> Row[Any]:
        row = (await connection.execute(select(sessions).where(self._mine(session_id)))).one_or_none()
        if row is None:
            raise NotFound(f"no session {session_id[:40]!r}")
        return row

    async def version(self, session_id: str) -> int:
        """The session's version in the database. Raises NotFound."""
        async with self._db.read() as connection:
            found = await connection.execute(select(sessions.c.version).where(self._mine(session_id)))
            version = found.scalar_one_or_none()
        if version is None:
            raise NotFound(f"no session {session_id[:40]!r}")
        return version

    async def list_sessions(self, limit: int, after: str | None, name: str | None = None) -> Sequence[Row[Any]]:
        """Newest first, those that are older than the session `after`. Raises NotFound for an unknown `after`."""
        query = select(sessions).where(sessions.c.tenant == self.tenant)
        if name is not None:
            query = query.where(sessions.c.name == name)
        async with self._db.read() as connection:
            if after is not None:
                last = await self._session(connection, after)
                place = tuple_(literal(last.created_at), literal(last.id))
                query = query.where(tuple_(sessions.c.created_at, sessions.c.id) < place)
            ordered = query.order_by(sessions.c.created_at.desc(), sessions.c.id.desc()).limit(limit)
            return (await connection.execute(ordered)).all()

    async def delete_session(self, session_id: str) -> None:
        """The session and all that belongs to it. Raises NotFound."""
        async with self._db.write() as connection:
            done = await connection.execute(delete(sessions).where(self._mine(session_id)))
        if done.rowcount == 0:
            raise NotFound(f"no session {session_id[:40]!r}")
        await self._db.forget_log()

    async def fork_session(self, session_id: str, name: str | None, limit: int) -> Row[Any]:
        """A copy with everything that belongs to the session, in one transaction. Raises NotFound, TooMany."""
        fork, now = uuid.uuid4().hex, time.time()
        async with self._db.write() as connection:
            await self._room_for_one(connection, limit)
            old = await self._session(connection, session_id)
            values = {
                **old._mapping, "id": fork, "name": old.name if name is None else name, "forked_from": old.id,
                "created_at": now, "updated_at": now,
            }  # fmt: skip
            made = (await connection.execute(insert(sessions).values(values).returning(sessions))).one()
            for table in _COPIED:
                names = [column.name for column in table.columns]
                kept = [literal(fork) if name == "session_id" else table.c[name] for name in names]
                copied = select(*kept).where(self._of(table, session_id))
                await connection.execute(insert(table).from_select(names, copied))
            return made

    async def _touch(self, connection: AsyncConnection, session_id: str, **values: Any) -> Row[Any]:
        """Lock the session's row by writing to it. Raises NotFound."""
        change = update(sessions).where(self._mine(session_id)).values(updated_at=time.time(), **values)
        row = (await connection.execute(change.returning(sessions))).one_or_none()
        if row is None:
            raise NotFound(f"no session {session_id[:40]!r}")
        return row

    async def _advance(
        self, connection: AsyncConnection, session_id: str, version: int, **values: Any
    ) -> None:
        """From `version` to the next. Raises Moved when another writer was first, NotFound when it is gone."""
        change = update(sessions).where(self._mine(session_id) & (sessions.c.version == version))
        done = await connection.execute(change.values(version=version + 1, updated_at=time.time(), **values))
        if done.rowcount == 0:
            await self._session(connection, session_id)
            raise Moved(f"session {session_id} is no longer at version {version}: another writer was first")

