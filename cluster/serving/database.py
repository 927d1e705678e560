"""Connections, transactions and migrations. SQLite writes begin immediately, so that no writer fails half-way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import event, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from cluster.serving.config import DatabaseConfig
from cluster.serving.errors import DatabaseDown

_MIGRATIONS = "cluster.serving:migrations"
_LOCK = 7214001  # PostgreSQL's advisory lock that one migrating process holds
_BEGIN = {"read": "BEGIN", "write": "BEGIN IMMEDIATE", "plain": None}
_DOWN = (DBAPIError, PoolTimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Database:
    """One process's connections to the sessions' database."""

    def __init__(self, config: DatabaseConfig) -> None:
        self.sqlite = config.url.startswith("sqlite")
        timeout: dict[str, Any] = {"timeout": config.timeout_s}
        if not self.sqlite:
            timeout["command_timeout"] = config.timeout_s
        self.engine = create_async_engine(
            config.url, connect_args=timeout, pool_size=config.pool_size, max_overflow=0,
            pool_timeout=config.timeout_s, pool_pre_ping=not self.sqlite,
        )  # fmt: skip
        if self.sqlite:
            event.listen(self.engine.sync_engine, "connect", _set_up_sqlite(config.synchronous))
            event.listen(self.engine.sync_engine, "begin", _begin_sqlite)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits at the end of the block. Raises DatabaseDown."""
        async with self._connection("write") as connection:
            yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees one state of the database. Raises DatabaseDown."""
        async with self._connection("read") as connection:
            yield connection

    @asynccontextmanager
    async def _connection(self, purpose: str) -> AsyncIterator[AsyncConnection]:
        try:
            async with self.engine.connect() as connection:
                await connection.execution_options(purpose=purpose)
                async with connection.begin():
                    yield connection
        except IntegrityError:
            raise
        except _DOWN as error:
            raise DatabaseDown(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from error

    async def migrate(self) -> None:
        """Bring the tables up to date; processes that start together wait for each other."""
        async with self.write() as connection:
            if not self.sqlite:
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            await connection.run_sync(_upgrade)

    async def forget_log(self) -> None:
        """SQLite keeps deleted text in its write-ahead log until that is written back: do so now."""
        if self.sqlite:
            async with self._connection("plain") as connection:
                await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", _MIGRATIONS)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _set_up_sqlite(synchronous: str) -> Any:
    def set_up(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy begins transactions, see `_begin_sqlite`
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", f"synchronous={synchronous}", "foreign_keys=ON", "secure_delete=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return set_up


def _begin_sqlite(connection: Connection) -> None:
    begin = _BEGIN[connection.get_execution_options().get("purpose", "write")]
    if begin is not None:
        connection.exec_driver_sql(begin)
