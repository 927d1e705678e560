"""The memory and the log of a tenant's sessions; with `SessionRows` and `DocumentRows`, all queries there are."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import Row, Select, and_, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from cluster.serving.document_rows import DocumentRows
from cluster.serving.errors import Moved, NotFound
from cluster.serving.tables import changes, commits, documents, entries
from env.memory import MemoryStore


@dataclass
class Work:
    """What one commit writes: the store after it, its row in the log, and the cursor it moves."""

    kind: str  # chunk, question, edit
    store: MemoryStore  # its `log` holds the changes since the last commit
    query: str | None = None
    document: int | None = None
    chunk: int | None = None
    body: dict[str, Any] = field(default_factory=dict)


class Repository(DocumentRows):
    """Everything of one tenant."""

    # -- writing ---------------------------------------------------------------------------------------------------

    async def commit(self, session_id: str, version: int, work: Work) -> Row[Any]:
        """One transaction from `version` to the next: memory, log, and the document's cursor, or nothing.

        Raises Moved when another writer was first or the document was cancelled, NotFound when the session is gone.
        """
        store = work.store
        async with self._db.write() as connection:
            await self._advance(
                connection, session_id, version, scratchpad=store.scratchpad, next_id=store.next_id,
                discarded=store.discarded, query=work.query, entries=len(store),
            )  # fmt: skip
            if work.document is not None:
                await self._move_cursor(connection, session_id, work)
            await self._write_memory(connection, session_id, version + 1, store)
            row = {
                "session_id": session_id, "version": version + 1, "kind": work.kind, "document": work.document,
                "chunk": work.chunk, "entries": len(store), "body": work.body, "created_at": time.time(),
            }  # fmt: skip
            return (await connection.execute(insert(commits).values(row).returning(commits))).one()

    async def _move_cursor(self, connection: AsyncConnection, session_id: str, work: Work) -> None:
        here = (documents.c.number == work.document) & (documents.c.read == work.chunk)
        where = self._of(documents, session_id) & here & (documents.c.state == "pending")
        done = await connection.execute(update(documents).where(where).values(read=documents.c.read + 1))
        if done.rowcount == 0:
            raise Moved(f"chunk {work.chunk} of document {work.document} is not the next one to read any more")
        finished = (documents.c.number == work.document) & (documents.c.read == documents.c.chunks)
        await connection.execute(
            update(documents).where(self._of(documents, session_id) & finished).values(state="done")
        )

    async def _write_memory(
        self, connection: AsyncConnection, session_id: str, version: int, store: MemoryStore
    ) -> None:
        """The changes of the store's log, and the rows of the entries they touched as they are now."""
        made = [item for item in store.log if item.kind != "discard"]
        place = {"session_id": session_id, "version": version}
        log = [
            {**place, "place": i, "kind": item.kind, "entry_id": item.entry_id, "content": item.content}
            for i, item in enumerate(made)
        ]
        touched = {item.entry_id for item in made if item.entry_id is not None}
        kept = [
            {**place, "entry_id": entry_id, "content": content, "vector": store.vector(entry_id).tobytes()}
            for entry_id in sorted(touched)
            if (content := store.content(entry_id)) is not None
        ]
        if log:
            await connection.execute(insert(changes), log)
        if touched:
            gone = self._of(entries, session_id) & entries.c.entry_id.in_(touched)
            await connection.execute(delete(entries).where(gone))
        if kept:
            await connection.execute(insert(entries), kept)

    # -- reading ---------------------------------------------------------------------------------------------------

    async def load(self, session_id: str, dim: int) -> tuple[Row[Any], dict[str, Any]]:
        """The session's row and the state of its store, as one moment saw them (`MemoryStore.restore`)."""
        query = select(entries.c.entry_id, entries.c.content, entries.c.vector)
        async with self._db.read() as connection:
            session = await self._session(connection, session_id)
            mine = query.where(self._of(entries, session_id)).order_by(entries.c.entry_id)
            rows = (await connection.execute(mine)).all()
        vectors = np.frombuffer(b"".join(row.vector for row in rows), np.float32).reshape(len(rows), dim)
        state: dict[str, Any] = {
            "entries": {row.entry_id: row.content for row in rows}, "vectors": vectors, "next_id": session.next_id,
            "scratchpad": session.scratchpad, "discarded": session.discarded, "log": [],
        }  # fmt: skip
        return session, state

    async def list_entries(self, session_id: str, after: int, limit: int) -> tuple[Row[Any], Sequence[Row[Any]]]:
        """The session, and its entries (with their source) in order of id. Raises NotFound."""
        async with self._db.read() as connection:
            session = await self._session(connection, session_id)
            query = self._sourced(session_id, entries).where(entries.c.entry_id > after)
            return session, (await connection.execute(query.order_by(entries.c.entry_id).limit(limit))).all()

    async def entries_by_id(self, session_id: str, ids: Sequence[int]) -> Mapping[int, Row[Any]]:
        """Those of the entries that exist, with their source."""
        query = self._sourced(session_id, entries).where(entries.c.entry_id.in_(ids))
        async with self._db.read() as connection:
            return {row.entry_id: row for row in await connection.execute(query)}

    def _sourced(self, session_id: str, table: Any) -> Select[Any]:
        """Rows with content, version, and document and chunk of the commit that wrote them."""
        written = table.join(
            commits, and_(commits.c.session_id == table.c.session_id, commits.c.version == table.c.version)
        )
        columns = (table.c.entry_id, table.c.content, table.c.version, commits.c.document, commits.c.chunk)
        return select(*columns).select_from(written).where(self._of(table, session_id))

    async def past(
        self, session_id: str, version: int, after: int, limit: int
    ) -> tuple[str, Sequence[Row[Any]]]:
        """Scratchpad and entries as they were at `version`. Raises NotFound for one that is not reached yet."""
        upto = self._of(changes, session_id) & (changes.c.version <= version)
        order = (changes.c.version.desc(), changes.c.place.desc())
        async with self._db.read() as connection:
            session = await self._session(connection, session_id)
            if version > session.version:
                raise NotFound(f"session {session_id} is at version {session.version}; there is no {version} yet")
            pad = select(changes.c.content).where(upto & (changes.c.kind == "scratchpad")).order_by(*order).limit(1)
            scratchpad = (await connection.execute(pad)).scalar_one_or_none() or ""
            rank = func.row_number().over(partition_by=changes.c.entry_id, order_by=order).label("rank")
            last = select(changes, rank).where(upto & (changes.c.entry_id > after)).subquery()
            alive = self._sourced(session_id, last).where((last.c.rank == 1) & (last.c.kind != "delete"))
            found = await connection.execute(alive.order_by(last.c.entry_id).limit(limit))
            return scratchpad, found.all()

    async def log(
        self, session_id: str, after: int, limit: int, document: int | None = None
    ) -> Sequence[Row[Any]]:
        """Commits later than the version `after`, in order; of one document, if given. Raises NotFound."""
        query = select(commits).where(self._of(commits, session_id) & (commits.c.version > after))
        if document is not None:
            query = query.where(commits.c.document == document)
        async with self._db.read() as connection:
            await self._session(connection, session_id)
            return (await connection.execute(query.order_by(commits.c.version).limit(limit))).all()
