"""The Serve application: ingress replicas -> agent replicas (a session sticks to one) -> engine replicas.

`build` is the app builder that `serve run`, `serve deploy` and `atommem serve` call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayActorError
from ray.serve import Application
from ray.serve.config import RequestRouterConfig
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from cluster.serving.agent import Edit, SessionAgent
from cluster.serving.config import ReplicasConfig, ServingConfig
from cluster.serving.database import Database
from cluster.serving.engine import EngineClient, EngineReplica
from cluster.serving.errors import RETRY_AFTER_S, Unavailable
from cluster.serving.http.application import make_app
from cluster.serving.http.context import Context
from cluster.serving.schemas import Commit, Document, SearchResult
from cluster.serving.views import Event
from env.embedding import BatchedEmbedder, make_embedder
from env.tokenizer import ChatTokenizer
from rollout.engine_args import environment

_STICKY = "ray.serve.experimental.consistent_hash_router:ConsistentHashRouter"
_TAKE_OVER_S = 60.0  # how long a stream waits for another replica when its own has died
_GONE = (RayActorError, BackPressureError)


@serve.deployment
class AgentReplica(SessionAgent):
    """A SessionAgent whose engine is the engine deployment."""

    async def __init__(self, config: ServingConfig, engine: DeploymentHandle) -> None:  # type: ignore[misc]
        database = Database(config.database)
        await database.migrate()
        embedder = BatchedEmbedder(make_embedder(config.env.embedder, patient=False))
        client = EngineClient(engine, config.engine.request_timeout_s)
        super().__init__(config, database, ChatTokenizer(config.model), embedder, client)
        self._watching = asyncio.create_task(self.background.watch())


@serve.deployment
@serve.ingress()
class Ingress:
    """The HTTP application."""

    def __init__(self, config: ServingConfig, agents: DeploymentHandle) -> None:
        self._context = Context(config, Database(config.database), RemoteAgents(agents))

    def __serve_build_asgi_app__(self) -> FastAPI:
        return make_app(self._context)


class RemoteAgents:
    """The agent replicas as `Agents`: a session's calls go to the replica that its id hashes to."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def add_document(
        self, tenant: str, session_id: str, text: str, title: str, key: str | None, background: bool
    ) -> Document:
        """See `SessionAgent`."""
        return await self._call(session_id, "add_document", tenant, session_id, text, title, key, background)

    async def edit(self, tenant: str, session_id: str, edit: Edit, expected: int | None = None) -> Commit:
        """See `SessionAgent`."""
        return await self._call(session_id, "edit", tenant, session_id, edit, expected)

    async def search(self, tenant: str, session_id: str, query: str, k: int) -> SearchResult:
        """See `SessionAgent`."""
        return await self._call(session_id, "search", tenant, session_id, query, k)

    async def start(self, tenant: str, session_id: str) -> None:
        """See `SessionAgent`."""
        await self._call(session_id, "start", tenant, session_id)

    async def forget(self, session_id: str) -> None:
        """See `SessionAgent`."""
        await self._call(session_id, "forget", session_id)

    async def read(self, tenant: str, session_id: str, number: int, after: int = 0) -> AsyncIterator[Event]:
        """See `SessionAgent`. When its replica dies, another one goes on where the committed events end."""
        begun, deadline = False, time.monotonic() + _TAKE_OVER_S
        while True:
            try:
                async with aclosing(self._stream(session_id, "read", tenant, session_id, number, after)) as events:
                    opening = True
                    async for event in events:
                        deadline, after = time.monotonic() + _TAKE_OVER_S, event.id or after
                        if not (opening and begun):  # another replica's opening event was told by the first
                            yield event
                        opening, begun = False, True
                return
            except Unavailable as error:
                if not isinstance(error.__cause__, _GONE) or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.5)

    async def ask(
        self, tenant: str, session_id: str, question: str, may_be_empty: bool = False
    ) -> AsyncIterator[Event]:
        """See `SessionAgent`."""
        async with aclosing(self._stream(session_id, "ask", tenant, session_id, question, may_be_empty)) as events:
            async for event in events:
                yield event

    async def _call(self, session_id: str, method: str, *args: Any) -> Any:
        try:
            return await getattr(self._handle.options(session_id=session_id), method).remote(*args)
        except _GONE as error:
            raise _gone() from error

    async def _stream(self, session_id: str, method: str, *args: Any) -> AsyncGenerator[Event, None]:
        handle = self._handle.options(session_id=session_id, stream=True)
        response = getattr(handle, method).remote(*args)
        try:
            async for event in response:
                yield event
        except _GONE as error:
            raise _gone() from error
        finally:
            response.cancel()  # of a client that went away; nothing to a stream that has ended


def _gone() -> Unavailable:
    return Unavailable("the session's replica has just died; another one takes over", RETRY_AFTER_S)


def build(config: ServingConfig) -> Application:
    """The application of a configuration."""
    engine = EngineReplica.options(  # type: ignore[attr-defined]
        **_replicas(config.engine_replicas),
        max_ongoing_requests=config.engine.max_num_seqs,
        graceful_shutdown_timeout_s=config.engine.request_timeout_s,
        ray_actor_options={
            "num_cpus": config.engine.num_cpus,
            "num_gpus": config.engine.num_gpus,
            "runtime_env": {"env_vars": environment(config.engine)},
        },
    ).bind(config)
    agents = AgentReplica.options(  # type: ignore[attr-defined]
        **_replicas(config.agent_replicas),
        max_ongoing_requests=config.limits.requests_in_flight,
        request_router_config=RequestRouterConfig(request_router_class=_STICKY),
        ray_actor_options=_actor(config.agent_replicas),
    ).bind(config, engine)
    return Ingress.options(  # type: ignore[attr-defined]
        **_replicas(config.ingress_replicas),
        max_ongoing_requests=2 * config.limits.requests_in_flight,  # beyond the limit a request is told so
        ray_actor_options=_actor(config.ingress_replicas),
    ).bind(config, agents)


def _replicas(config: ReplicasConfig) -> dict[str, Any]:
    if config.min == config.max:
        return {"num_replicas": config.min}
    scaling = {
        "min_replicas": config.min,
        "max_replicas": config.max,
        "target_ongoing_requests": config.target_ongoing_requests,
    }
    return {"autoscaling_config": scaling}


def _actor(config: ReplicasConfig) -> dict[str, Any]:
    return {"num_cpus": config.num_cpus, "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "1"}}}
