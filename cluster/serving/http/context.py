"""What the routes share: configuration, database, the agents, and who is asking."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from cluster.serving.agent import Edit
from cluster.serving.config import ServingConfig
from cluster.serving.database import Database
from cluster.serving.deployments import Deployments
from cluster.serving.errors import NotFound
from cluster.serving.http.limits import RateLimiter
from cluster.serving.keys import Caller, Keys
from cluster.serving.repository import Repository
from cluster.serving.schemas import Commit, Document, SearchResult
from cluster.serving.views import Event


class Agents(Protocol):
    """The replicas that hold sessions, as `SessionAgent` documents the calls: one in this process, or Serve's."""

    async def add_document(
        self, tenant: str, session_id: str, text: str, title: str, key: str | None, background: bool
    ) -> Document: ...
    def read(self, tenant: str, session_id: str, number: int, after: int = 0) -> AsyncIterator[Event]: ...
    def ask(
        self, tenant: str, session_id: str, question: str, may_be_empty: bool = False
    ) -> AsyncIterator[Event]: ...
    async def edit(self, tenant: str, session_id: str, edit: Edit, expected: int | None = None) -> Commit: ...
    async def search(self, tenant: str, session_id: str, query: str, k: int) -> SearchResult: ...
    async def start(self, tenant: str, session_id: str) -> None: ...
    async def forget(self, session_id: str) -> None: ...


@dataclass
class Context:
    """One ingress replica's parts."""

    config: ServingConfig
    database: Database
    agents: Agents

    def __post_init__(self) -> None:
        self.keys, self.deployments = Keys(self.database), Deployments(self.database)
        self.rate = RateLimiter(self.config.limits.requests_per_minute)


def context(request: Request) -> Context:
    """The replica's parts."""
    return request.app.state.context


async def caller(request: Request) -> Caller:
    """Who asks. 401 without a known key, where keys are asked for; 429 beyond the rate."""
    shared = context(request)
    found: Caller | None = Caller("local", admin=True)
    if shared.config.http.keys:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        found = await shared.keys.caller(key.strip()) if scheme.lower() == "bearer" else None
    if found is None:
        raise HTTPException(401, "give an API key: `Authorization: Bearer KEY`", {"WWW-Authenticate": "Bearer"})
    shared.rate.check(found.tenant)
    return found


def repository(request: Request, who: Annotated[Caller, Depends(caller)]) -> Repository:
    """The caller's rows, and no others."""
    return Repository(context(request).database, who.tenant)


def admin(who: Annotated[Caller, Depends(caller)]) -> Caller:
    """A caller who may deploy; to others the route does not exist."""
    if not who.admin:
        raise NotFound("no such route")
    return who


Shared = Annotated[Context, Depends(context)]
Who = Annotated[Caller, Depends(caller)]
Rows = Annotated[Repository, Depends(repository)]
Admin = Annotated[Caller, Depends(admin)]
