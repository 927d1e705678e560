"""Whatever the OpenAPI document allows, and much that it does not, is answered as it says, and never with a 500."""

import asyncio
import threading
from contextlib import suppress

import httpx
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from cluster.serving.agent import SessionAgent
from cluster.serving.database import Database
from cluster.serving.deployments import Deployments
from cluster.serving.http.application import make_app
from cluster.serving.http.context import Context
from env.embedding import BatchedEmbedder, make_embedder
from tests.serving.conftest import FACTS
from tests.serving.scripted import ScriptedPolicy

# Whether a prompt has that name or a text is too long in tokens, no schema can say: such requests are refused.
_EXCLUDED = [positive_data_acceptance]
# Schemathesis's own list without 5xx, and with 413: what is wrong and too large as well is refused for its size.
_REFUSED = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429"]
_CONFIG = SchemathesisConfig.from_dict({"checks": {"negative_data_rejection": {"expected-statuses": _REFUSED}}})


@pytest.fixture
def url(config, tokenizer):
    """A live server over HTTP in a thread of its own, with one session to be found."""
    limits = config.limits.model_copy(update={"requests_per_minute": 1_000_000, "sessions": 1_000_000})
    config = config.model_copy(update={"limits": limits})
    started, bound = threading.Event(), {}

    async def serve() -> None:
        database = Database(config.database)
        await database.migrate()
        deployments = Deployments(database)
        await deployments.settle((await deployments.first(config.model)).version, "active")
        embedder = BatchedEmbedder(make_embedder(config.env.embedder))
        agent = SessionAgent(config, database, tokenizer, embedder, ScriptedPolicy(tokenizer))
        app = make_app(Context(config, database, agent))
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
        bound["server"] = server
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.02)
        bound["port"] = server.servers[0].sockets[0].getsockname()[1]
        started.set()
        await task
        await database.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(60)
    yield f"http://127.0.0.1:{bound['port']}"
    bound["server"].should_exit = True
    thread.join(30)


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_answer_is_in_the_schema_and_none_is_a_500(url, mode):
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=_CONFIG, timeout=120)
    session = httpx.post(f"{url}/v1/sessions", json={}).json()["id"]
    httpx.post(f"{url}/v1/sessions/{session}/documents", content="\n".join(FACTS))
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 25
    for operation in operations:

        @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
        @settings(max_examples=10, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        def check(case, known):
            ends_it = case.method.lower() == "delete" and case.path.endswith("{session_id}")
            if known and not ends_it and "session_id" in case.path_parameters:
                case.path_parameters["session_id"] = session
            case.call_and_validate(excluded_checks=_EXCLUDED, timeout=120)

        with suppress(Unsatisfiable):  # nothing about this operation can be wrong
            check()
