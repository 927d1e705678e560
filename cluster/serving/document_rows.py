"""Documents of a tenant's sessions: stored in chunks before anything is read, so that reading can resume."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, insert, select, update

from cluster.serving.database import Database
from cluster.serving.errors import Conflict, NotFound, TooMany
from cluster.serving.session_rows import SessionRows
from cluster.serving.tables import chunks, documents, sessions


@dataclass(frozen=True)
class NewDocument:
    """A text as it is stored: the chunk boundaries never change again."""

    text: str
    title: str
    chunks: tuple[str, ...]
    tokens: int
    key: str | None
    background: bool

    @property
    def digest(self) -> str:
        """Tells a repeated request from another one with the same key."""
        return hashlib.sha256(self.text.encode()).hexdigest()


class DocumentRows(SessionRows):
    """Documents of one tenant."""

    async def known_document(self, session_id: str, new: NewDocument) -> Row[Any] | None:
        """The document that came with the same key before. Raises Conflict when its text was another."""
        if new.key is None:
            return None
        query = select(documents).where(self._of(documents, session_id) & (documents.c.key == new.key))
        async with self._db.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is not None and row.digest != new.digest:
            raise Conflict(f"Idempotency-Key {new.key[:40]!r} came with another text before")
        return row

    async def add_document(self, session_id: str, new: NewDocument, limit: int) -> Row[Any]:
        """Store a text under the session's next number. Raises NotFound, TooMany; IntegrityError for a known key."""
        async with self._db.write() as connection:
            session = await self._touch(connection, session_id, documents=sessions.c.documents + 1)
            if session.documents > limit:
                raise TooMany(f"session {session_id} has {limit} documents, which is the limit")
            values = {
                "session_id": session_id, "number": session.documents, "title": new.title, "state": "pending",
                "background": new.background, "tokens": new.tokens, "chunks": len(new.chunks), "read": 0,
                "key": new.key, "digest": new.digest, "created_at": time.time(),
            }  # fmt: skip
            row = (await connection.execute(insert(documents).values(values).returning(documents))).one()
            place = {"session_id": session_id, "document": row.number}
            rows = [{**place, "number": number, "text": text} for number, text in enumerate(new.chunks)]
            await connection.execute(insert(chunks), rows)
            return row

    async def document(self, session_id: str, number: int) -> Row[Any]:
        """Raises NotFound."""
        query = select(documents).where(self._of(documents, session_id) & (documents.c.number == number))
        async with self._db.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise NotFound(f"no document {number} in session {session_id[:40]!r}")
        return row

    async def list_documents(self, session_id: str) -> Sequence[Row[Any]]:
        """In order of number. Raises NotFound."""
        async with self._db.read() as connection:
            await self._session(connection, session_id)
            query = select(documents).where(self._of(documents, session_id)).order_by(documents.c.number)
            return (await connection.execute(query)).all()

    async def set_document(self, session_id: str, number: int, **values: Any) -> Row[Any]:
        """Change state or background of a document that is not done; a done one stays as it is. Raises NotFound."""
        where = self._of(documents, session_id) & (documents.c.number == number) & (documents.c.state != "done")
        async with self._db.write() as connection:
            await self._touch(connection, session_id)
            await connection.execute(update(documents).where(where).values(**values))
        return await self.document(session_id, number)

    async def chunk(self, session_id: str, number: int, chunk: int) -> str:
        """The text of one chunk. Raises NotFound."""
        place = (chunks.c.document == number) & (chunks.c.number == chunk)
        async with self._db.read() as connection:
            found = await connection.execute(select(chunks.c.text).where(self._of(chunks, session_id) & place))
            text = found.scalar_one_or_none()
        if text is None:
            raise NotFound(f"no chunk {chunk} in document {number} of session {session_id[:40]!r}")
        return text

    async def next_chunk(self, session_id: str) -> Row[Any] | None:
        """The first unread chunk of the oldest pending document, as `documents`' row with the chunk's `text`."""
        joined = documents.join(
            chunks,
            (chunks.c.session_id == documents.c.session_id)
            & (chunks.c.document == documents.c.number)
            & (chunks.c.number == documents.c.read),
        )
        pending = self._of(documents, session_id) & (documents.c.state == "pending")
        query = select(documents, chunks.c.text).select_from(joined).where(pending)
        async with self._db.read() as connection:
            return (await connection.execute(query.order_by(documents.c.number).limit(1))).one_or_none()


async def abandoned(database: Database, before: float) -> Sequence[Any]:
    """(tenant, id) of sessions with background documents and no progress since `before`: not for users."""
    waiting = (documents.c.state == "pending") & documents.c.background & (sessions.c.updated_at < before)
    query = select(sessions.c.tenant, sessions.c.id).join(documents).where(waiting).distinct()
    async with database.read() as connection:
        return (await connection.execute(query)).all()
