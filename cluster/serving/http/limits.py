"""Limits at the door: requests per minute and tenant, requests in flight, the size of a body, and who may connect."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from cachetools import LRUCache
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.serving.config import LOOPBACK, ServingConfig
from cluster.serving.errors import Refusal, TooLarge, TooMany, Unavailable
from cluster.serving.http.problems import problem_of

_OPEN = ("/healthz", "/readyz", "/metrics")  # never turned away for load


class RateLimiter:
    """A bucket of `per_minute` tokens per tenant that refills evenly."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._size, self._clock = per_minute, clock
        self._buckets: LRUCache[str, tuple[float, float]] = LRUCache(10_000)  # tenant -> (tokens, when)

    def check(self, tenant: str) -> None:
        """Take a token. Raises TooMany."""
        now = self._clock()
        tokens, when = self._buckets.get(tenant, (float(self._size), now))
        tokens = min(self._size, tokens + (now - when) * self._size / 60)
        if tokens < 1:
            wait = math.ceil((1 - tokens) * 60 / self._size)
            raise TooMany(f"more than {self._size} requests in a minute", wait)
        self._buckets[tenant] = (tokens - 1, now)


class Door:
    """ASGI middleware: everything that is refused before a route looks at it."""

    def __init__(self, app: ASGIApp, config: ServingConfig) -> None:
        self._app, self._config = app, config
        self._max_bytes = int(config.limits.body_mb * 2**20)
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _OPEN:
            await self._app(scope, receive, send)
            return
        try:
            self._check(Headers(scope=scope))
        except Refusal as refusal:
            await problem_of(refusal)(scope, receive, send)
            return
        self._inside += 1
        try:
            await self._app(scope, self._counted(receive), send)
        finally:
            self._inside -= 1

    def _check(self, headers: Headers) -> None:
        """Raises TooLarge, Unavailable, and Refusal for a foreign page."""
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._max_bytes:
            raise TooLarge(self._too_large())
        if self._inside >= self._config.limits.requests_in_flight:
            raise Unavailable(f"{self._inside} requests are in flight, which is the limit", 1)
        if not self._config.http.keys:
            _check_local(headers)

    def _counted(self, receive: Receive) -> Receive:
        """A body without Content-Length is measured as it comes."""
        got = 0

        async def counted() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > self._max_bytes:
                raise HTTPException(413, self._too_large())
            return message

        return counted

    def _too_large(self) -> str:
        return f"the body is larger than {self._config.limits.body_mb:g} MB: send the text in parts"


class _Foreign(Refusal):
    status, title = 403, "Forbidden"


def _check_local(headers: Headers) -> None:
    """Without keys a web page elsewhere must not use the visitor's browser to reach this server."""
    host = urlsplit(f"//{headers.get('host', '')}").hostname
    origin = headers.get("origin")
    if host not in LOOPBACK or (origin is not None and urlsplit(origin).hostname not in LOOPBACK):
        raise _Foreign("without API keys only this machine is served (Host and Origin must be the loopback)")
