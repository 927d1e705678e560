"""The database: SQLAlchemy Core tables, the same on SQLite and PostgreSQL. Times are seconds since 1970.

A commit's row, its changes, the entries and the document's cursor are written in one transaction. Vectors are float32
bytes; the FAISS index of a live session is a cache made of them.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

api_keys = Table(
    "api_keys",
    metadata,
    Column("hash", String(64), primary_key=True),  # sha256 of a random key of 256 bits
    Column("tenant", String(100), nullable=False),
    Column("admin", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
)

deployments = Table(
    "deployments",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=True),
    Column("checkpoint", Text, nullable=False),
    Column("configured", Boolean, nullable=False),  # by the server's configuration; else by `atommem deploy`
    Column("state", String(10), nullable=False),
    Column("reason", Text),
    Column("created_at", Float, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(100), nullable=False, index=True),
    Column("name", String(200), nullable=False),
    Column("options", JSON, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("entries", Integer, nullable=False),
    Column("documents", Integer, nullable=False),
    Column("scratchpad", Text, nullable=False),
    Column("next_id", BigInteger, nullable=False),
    Column("discarded", BigInteger, nullable=False),
    Column("query", Text),  # a Read whose result the next step is still to be shown
    Column("forked_from", String(32)),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
)


def _session() -> Column[str]:
    return Column("session_id", ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True)


documents = Table(
    "documents",
    metadata,
    _session(),
    Column("number", Integer, primary_key=True),
    Column("title", String(200), nullable=False),
    Column("state", String(10), nullable=False),
    Column("error", Text),
    Column("background", Boolean, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("chunks", Integer, nullable=False),
    Column("read", Integer, nullable=False),  # the cursor: chunks committed
    Column("key", String(200)),  # Idempotency-Key
    Column("digest", String(64), nullable=False),  # sha256 of the text, to tell a repeated key's text from another
    Column("created_at", Float, nullable=False),
    UniqueConstraint("session_id", "key"),
)

chunks = Table(
    "chunks",
    metadata,
    Column("session_id", String(32), primary_key=True),
    Column("document", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("text", Text, nullable=False),
    ForeignKeyConstraint(
        ["session_id", "document"], ["documents.session_id", "documents.number"], ondelete="CASCADE"
    ),
)

entries = Table(
    "entries",
    metadata,
    _session(),
    Column("entry_id", BigInteger, primary_key=True),
    Column("content", Text, nullable=False),
    Column("vector", LargeBinary, nullable=False),
    Column("version", BigInteger, nullable=False),  # the commit that wrote this content
)

commits = Table(
    "commits",
    metadata,
    _session(),
    Column("version", BigInteger, primary_key=True),
    Column("kind", String(10), nullable=False),
    Column("document", Integer),
    Column("chunk", Integer),
    Column("entries", Integer, nullable=False),
    Column("body", JSON, nullable=False),  # question, answer, steps, operations, usage, model
    Column("created_at", Float, nullable=False),
)

changes = Table(
    "changes",
    metadata,
    _session(),
    Column("version", BigInteger, primary_key=True),
    Column("place", Integer, primary_key=True),  # order within the commit
    Column("kind", String(10), nullable=False),  # create, update, delete, scratchpad
    Column("entry_id", BigInteger),
    Column("content", Text, nullable=False),
)
