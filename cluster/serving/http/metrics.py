"""What an ingress replica counts, for Prometheus."""

from __future__ import annotations

import time

from prometheus_client import Counter, Gauge, Histogram
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUESTS = Counter("atommem_requests", "Requests answered", ["method", "route", "status"])
SECONDS = Histogram(
    "atommem_request_seconds", "Until the last byte", ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)  # fmt: skip
IN_FLIGHT = Gauge("atommem_requests_in_flight", "Requests being answered")


class Counted:
    """ASGI middleware: counts requests by route template, so that ids do not become labels."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, started = 0, time.perf_counter()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            with IN_FLIGHT.track_inprogress():
                await self._app(scope, receive, noted)
        finally:
            route = _template(scope)
            REQUESTS.labels(scope["method"], route, status).inc()  # 0: the client went away before an answer
            SECONDS.labels(scope["method"], route).observe(time.perf_counter() - started)


def _template(scope: Scope) -> str:
    route = scope.get("route")
    if route is not None:
        return route.path
    routes = scope["app"].routes if "app" in scope else []
    return next((r.path for r in routes if r.matches(scope)[0] is Match.FULL and hasattr(r, "path")), "other")
