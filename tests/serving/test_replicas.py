"""The Serve deployments by their handles, in Serve's local testing mode: no cluster, a scripted engine."""

import httpx
import pytest
from ray import serve

from cluster.serving.application import AgentReplica, RemoteAgents
from cluster.serving.http.application import make_app
from cluster.serving.http.context import Context
from env.tokenizer import ChatTokenizer
from tests.serving.conftest import FACTS, MODEL
from tests.serving.scripted import ScriptedPolicy
from tests.serving.test_http import check_problem, events_of


@serve.deployment
class ScriptedEngine:
    """Stands where EngineReplica does."""

    def __init__(self) -> None:
        self._policy = ScriptedPolicy(ChatTokenizer(MODEL))

    async def generate(self, prompt_ids, sampling, seed):
        return await self._policy.generate(prompt_ids, sampling, 0, seed)


@pytest.fixture
def agents(config):
    return RemoteAgents(
        serve.run(AgentReplica.bind(config, ScriptedEngine.bind()), name="local", _local_testing_mode=True)
    )


async def test_requests_events_and_refusals_travel_between_replicas(config, database, agents):
    app = make_app(Context(config, database, agents))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8000") as client:
        path = f"/v1/sessions/{(await client.post('/v1/sessions', json={})).json()['id']}"
        events = events_of(await client.post(f"{path}/documents", content="\n".join(FACTS)))
        assert [name for name, _ in events] == ["document", "chunk", "chunk", "chunk", "document"]
        answer = await client.post(f"{path}/questions", json={"question": "Where does Leo Kim work ?"})
        assert answer.json()["answer"] == FACTS[1]
        check_problem(await client.delete(f"{path}/memory/entries/7"), 404, "entry 7, which does not exist")
        check_problem(await client.post(f"{path}/documents", content=" "), 422, "empty")
        accepted = await client.post(f"{path}/documents?background=true", content=FACTS[0])
        assert accepted.status_code == 202
        events = events_of(await client.get(f"{path}/documents/2/events"))
        assert events[-1][1]["state"] == "done"
        assert (await client.delete(path)).status_code == 204
        check_problem(await client.get(f"{path}/documents/2/events"), 404, "no document")
