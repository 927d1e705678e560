"""API keys: random, shown once, kept as hashes; each belongs to a tenant."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass

from cachetools import TTLCache
from sqlalchemy import insert, select

from cluster.serving.database import Database
from cluster.serving.tables import api_keys

_REMEMBERED_S = 10.0  # a key that was withdrawn may work for so long


@dataclass(frozen=True)
class Caller:
    """Who asks: the tenant of the key. `admin` may deploy checkpoints."""

    tenant: str
    admin: bool


class Keys:
    """Looks keys up, and remembers the answers for a moment."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: TTLCache[str, Caller | None] = TTLCache(10_000, _REMEMBERED_S)

    async def create(self, tenant: str, admin: bool) -> str:
        """A new key, which nobody can be told again."""
        key = f"atm-{secrets.token_urlsafe(32)}"
        values = {"hash": _hash(key), "tenant": tenant, "admin": admin, "created_at": time.time()}
        async with self._database.write() as connection:
            await connection.execute(insert(api_keys).values(values))
        return key

    async def caller(self, key: str) -> Caller | None:
        """Whose key it is; None for an unknown one."""
        hashed = _hash(key)
        if hashed not in self._known:
            async with self._database.read() as connection:
                found = await connection.execute(select(api_keys).where(api_keys.c.hash == hashed))
                row = found.one_or_none()
            self._known[hashed] = None if row is None else Caller(row.tenant, row.admin)
        return self._known[hashed]


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()  # of 256 random bits: nothing to guess, no salt needed
