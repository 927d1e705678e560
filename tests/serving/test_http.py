"""The HTTP layer over a real agent and database, in one process."""

import asyncio
import json

import httpx
import openai
import pytest

from cluster.serving.deployments import Deployments
from cluster.serving.errors import TooMany
from cluster.serving.http.application import make_app
from cluster.serving.http.context import Context
from cluster.serving.http.limits import RateLimiter
from tests.serving.conftest import FACTS

TEXT = "\n".join(FACTS)
JSON = {"content-type": "application/json"}


@pytest.fixture
def make_client(config, database, agent):
    """A client of an app with changed settings, and its app."""

    def make(**changes) -> httpx.AsyncClient:
        app = make_app(Context(config.model_copy(update=changes), database, agent))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000")

    return make


@pytest.fixture
async def client(make_client):
    async with make_client() as client:
        yield client


@pytest.fixture
async def session(client) -> str:
    made = await client.post("/v1/sessions", json={"name": "s"})
    assert made.status_code == 201, made.text
    return f"/v1/sessions/{made.json()['id']}"


def events_of(response) -> list[tuple[str, dict]]:
    assert response.status_code == 200, response.text
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in response.text.strip().split("\n\n")]
    return [(block["event"], json.loads(block["data"])) for block in blocks]


def check_problem(response, status: int, detail: str) -> None:
    body = response.json()
    assert (response.status_code, body["status"]) == (status, status), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert detail in body["detail"]


async def test_a_text_is_read_and_asked_about(client, session):
    # As `curl -d @file` sends it: with the content type of a form.
    form = {"content-type": "application/x-www-form-urlencoded"}
    events = events_of(await client.post(f"{session}/documents?title=facts", content=TEXT, headers=form))
    assert [name for name, _ in events] == ["document", "chunk", "chunk", "chunk", "document"]
    assert events[-1][1]["state"] == "done"
    answer = (await client.post(f"{session}/questions", json={"question": "Where does Anna Berg work ?"})).json()
    assert answer["answer"] == FACTS[0]
    assert answer["entries"][0]["source"] == {"document": 1, "chunk": 0}
    assert (await client.get(f"{session}/documents/1/chunks/0")).json()["text"] == FACTS[0]
    streamed = await client.post(f"{session}/questions", json={"question": "Leo Kim ?", "stream": True})
    assert [name for name, _ in events_of(streamed)] == ["reading", "answer"]
    log = (await client.get(f"{session}/log")).json()["items"]
    assert [item["kind"] for item in log] == ["chunk"] * 3 + ["question"] * 2
    assert (await client.get(session)).headers["etag"] == '"5"'


async def test_memory_pages_searches_and_shows_the_past(client, session):
    events_of(await client.post(f"{session}/documents", content=TEXT))
    first = (await client.get(f"{session}/memory?limit=2")).json()
    rest = (await client.get(f"{session}/memory?limit=2&after={first['next']}")).json()
    assert [entry["content"] for entry in first["entries"] + rest["entries"]] == list(FACTS)
    assert rest["next"] is None
    past = (await client.get(f"{session}/memory?version=1")).json()
    assert ([entry["content"] for entry in past["entries"]], past["scratchpad"]) == ([FACTS[0]], FACTS[0])
    found = (await client.get(f"{session}/memory/search", params={"q": "Leo Kim", "k": 1})).json()
    assert [entry["content"] for entry in found["entries"]] == [FACTS[1]]
    assert found["entries"][0]["score"] > 0.4


async def test_edits_by_hand_keep_to_the_version(client, session):
    added = await client.post(f"{session}/memory/entries", json={"content": "one"})
    assert (added.status_code, added.json()["operations"][0]["entry_id"]) == (201, 1)
    stale = {"If-Match": '"0"'}
    check_problem(await client.delete(f"{session}/memory/entries/1", headers=stale), 412, "at version 1, not 0")
    put = await client.put(f"{session}/memory/entries/1", json={"content": "uno"}, headers={"If-Match": '"1"'})
    assert put.json()["version"] == 2
    check_problem(await client.put(f"{session}/memory/entries/9", json={"content": "x"}), 404, "entry 9")
    await client.put(f"{session}/memory/scratchpad", json={"content": "note"})
    await client.delete(f"{session}/memory/entries/1")
    now = (await client.get(f"{session}/memory")).json()
    assert (now["version"], now["scratchpad"], now["entries"]) == (4, "note", [])


async def test_background_reading_can_be_followed_cancelled_and_resumed(client, session, policy):
    policy.gate.clear()
    accepted = await client.post(f"{session}/documents?background=true", content=TEXT)
    assert (accepted.status_code, accepted.json()["state"]) == (202, "pending")
    cancelled = await client.post(f"{session}/documents/1/cancel")
    assert cancelled.json()["state"] == "cancelled"
    policy.gate.set()
    resumed = await client.post(f"{session}/documents/1/resume")
    assert (resumed.status_code, resumed.json()["state"]) == (202, "pending")
    events = events_of(await client.get(f"{session}/documents/1/events"))
    assert [data["chunk"] for name, data in events if name == "chunk"] == [0, 1, 2]
    later = events_of(await client.get(f"{session}/documents/1/events", headers={"Last-Event-ID": "2"}))
    assert [data["chunk"] for name, data in later if name == "chunk"] == [2]
    assert [item["read"] for item in (await client.get(f"{session}/documents")).json()["items"]] == [3]


async def test_bad_input_is_told_in_a_problem_document(client, session, policy):
    nobody = "/v1/sessions/" + "0" * 32
    check_problem(await client.get(nobody), 404, "no session")
    check_problem(await client.get("/v1/sessions/x%00y"), 404, "no session")
    check_problem(await client.post(f"{nobody}/documents", content="x"), 404, "no session")
    check_problem(await client.post(f"{session}/documents", content="  \n"), 422, "empty")
    check_problem(await client.post(f"{session}/documents", content=b"\xff\xfe"), 422, "not UTF-8")
    check_problem(await client.post(f"{session}/documents", content=b"a\0b"), 422, "text")
    check_problem(await client.post(f"{session}/documents", json={"txt": "x"}), 422, "body.text")
    check_problem(await client.post(f"{session}/documents", json={"text": "x", "role": "system"}), 422, "role")
    check_problem(await client.post(f"{session}/documents", content="Anna " * 401), 413, "401 tokens, the limit is 400")
    check_problem(await client.post(f"{session}/documents", content="x" * 200_000), 413, "larger than 0.1 MB")
    check_problem(await client.post(f"{session}/documents", content=_endless()), 413, "larger than 0.1 MB")
    check_problem(await client.post(f"{session}/questions", json={"question": "Who ?"}), 409, "read nothing yet")
    check_problem(await client.post(f"{session}/questions", json={"question": "Who " * 50}), 413, "50 tokens")
    check_problem(await client.post("/v1/sessions", json={"options": {"prompt": "../x"}}), 422, "compact, full")
    check_problem(await client.post("/v1/sessions", json={"options": {"capacity": True}}), 422, "capacity")  # no 1
    check_problem(await client.post("/v1/sessions", content=b'{"name": "\\ud800"}', headers=JSON), 422, "name")
    check_problem(await client.get("/nowhere"), 404, "Not Found")
    policy.broken = True
    failed = events_of(await client.post(f"{session}/documents", content=TEXT))
    assert (failed[-1][0], failed[-1][1]["status"]) == ("error", 503)


async def _endless():
    for _ in range(300):
        yield b"word " * 200


async def test_keys_open_their_own_tenant_only(make_client, config):
    http = config.http.model_copy(update={"keys": True})
    async with make_client(http=http) as client:
        context = client._transport.app.state.context
        keys = [await context.keys.create(tenant, False) for tenant in ("a", "b")]
        one, two = ({"Authorization": f"Bearer {key}"} for key in keys)
        denied = await client.get("/v1/sessions")
        check_problem(denied, 401, "API key")
        assert denied.headers["www-authenticate"] == "Bearer"
        check_problem(await client.get("/v1/sessions", headers={"Authorization": "Bearer x"}), 401, "API key")
        made = (await client.post("/v1/sessions", json={}, headers=one)).json()["id"]
        check_problem(await client.get(f"/v1/sessions/{made}", headers=two), 404, "no session")
        check_problem(await client.delete(f"/v1/sessions/{made}", headers=two), 404, "no session")
        assert (await client.get("/v1/sessions", headers=two)).json()["items"] == []
        check_problem(await client.get("/v1/deployments", headers=one), 404, "no such route")
        chat = {"model": "atommem", "messages": [{"role": "user", "content": "x"}]}
        theirs = two | {"X-Session-Id": made}
        check_problem(await client.post("/v1/chat/completions", json=chat, headers=theirs), 404, "no session")


async def test_a_foreign_page_cannot_use_a_server_without_keys(client):
    check_problem(await client.get("/v1/sessions", headers={"Origin": "https://evil.example"}), 403, "loopback")
    check_problem(await client.get("/v1/sessions", headers={"Host": "evil.example"}), 403, "loopback")
    assert (await client.get("/v1/sessions", headers={"Origin": "http://localhost:3000"})).status_code == 200


async def test_limits_answer_with_when_to_come_back(make_client, config):
    limits = config.limits.model_copy(update={"sessions": 1, "requests_per_minute": 3})
    async with make_client(limits=limits) as client:
        assert (await client.post("/v1/sessions", json={})).status_code == 201
        check_problem(await client.post("/v1/sessions", json={}), 429, "1 sessions, which is the limit")
        assert (await client.get("/v1/sessions")).status_code == 200
        last = await client.get("/v1/sessions")
        check_problem(last, 429, "more than 3 requests in a minute")
        assert last.headers["retry-after"] == "20"


def test_a_bucket_refills_evenly():
    now = 0.0
    limiter = RateLimiter(60, lambda: now)
    for _ in range(60):
        limiter.check("t")
    with pytest.raises(TooMany):
        limiter.check("t")
    limiter.check("u")
    now = 1.0
    limiter.check("t")


async def test_too_many_requests_in_flight_are_sent_away(make_client, config, policy):
    limits = config.limits.model_copy(update={"requests_in_flight": 1})
    async with make_client(limits=limits) as client:
        made = (await client.post("/v1/sessions", json={})).json()["id"]
        policy.gate.clear()
        reading = asyncio.create_task(client.post(f"/v1/sessions/{made}/documents", content=TEXT))
        await policy.called.wait()
        busy = await client.get("/v1/sessions")
        check_problem(busy, 503, "in flight")
        assert busy.headers["retry-after"] == "1"
        assert (await client.get("/healthz")).json()["status"] == "ok"
        policy.gate.set()
        assert len(events_of(await reading)) == 5


async def test_openais_client_works_unchanged(client, make_client, database, agent):
    async with openai.AsyncOpenAI(
        base_url="http://127.0.0.1:8000/v1", api_key="none", http_client=client, max_retries=0
    ) as ai:
        history = [{"role": "user", "content": FACTS[0]}, {"role": "assistant", "content": "noted"}]
        asked = [*history, {"role": "user", "content": "Where does Anna Berg work ?"}]
        first = await ai.chat.completions.create(model="atommem", messages=asked, user="anna")
        assert FACTS[0] in first.choices[0].message.content
        assert first.usage.total_tokens == first.usage.prompt_tokens + first.usage.completion_tokens
        again = await ai.chat.completions.create(
            model="atommem", messages=asked, user="anna", stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in again]
        assert FACTS[0] in "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert chunks[-1].usage.completion_tokens > 0
        sessions = (await client.get("/v1/sessions")).json()["items"]
        assert [(s["name"], s["documents"], s["entries"]) for s in sessions] == [("user:anna", 2, 2)]
        with pytest.raises(openai.NotFoundError, match="no model 'gpt'"):
            await ai.chat.completions.create(model="gpt", messages=asked)
        alone = await ai.chat.completions.create(model="atommem", messages=asked)
        assert FACTS[0] in alone.choices[0].message.content
        assert len((await client.get("/v1/sessions")).json()["items"]) == 1  # it was for that request only
        assert [model.id async for model in await ai.models.list()] == []


async def test_readiness_and_metrics(client, agent, database):
    not_yet = await client.get("/readyz")
    assert (not_yet.status_code, not_yet.json()["parts"]["database"]) == (503, "ok")
    deployments = Deployments(database)
    row = await deployments.first("models/tiny-policy")
    await deployments.settle(row.version, "active")
    assert (await client.get("/readyz")).status_code == 200
    assert (await client.get("/v1/models")).json()["data"][0]["version"] == row.version
    check_problem(await client.post("/v1/deployments", json={"checkpoint": "/nowhere"}), 422, "no model folder")
    text = (await client.get("/metrics")).text
    assert 'atommem_requests_total{method="GET",route="/readyz",status="200"}' in text


async def test_which_checkpoint_is_wanted(database):
    deployments = Deployments(database)

    async def wanted():
        row = await deployments.wanted()
        return row.checkpoint, row.state

    first = await deployments.first("one")
    await deployments.settle(first.version, "active")
    second = await deployments.add("two")
    assert await wanted() == ("two", "pending")
    assert (await deployments.first("one")).checkpoint == "one"  # a replica that starts now loads what is served
    await deployments.settle(second.version, "refused", "broken")
    await deployments.settle(second.version, "active")  # another replica could: one refusal is enough
    assert await wanted() == ("one", "active")
    third = await deployments.add("three")
    await deployments.settle(third.version, "active")
    assert [row.state for row in await deployments.all()] == ["replaced", "refused", "active"]
    assert (await deployments.first("one")).checkpoint == "three"  # deployed later than configured
    assert (await deployments.first("four")).checkpoint == "four"  # configured anew


async def test_openapi_is_complete(client):
    document = (await client.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    assert {"Problem", "DocumentEvents", "QuestionEvents", "Commit"} <= schemas.keys()
    text = json.dumps(document)
    used = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert used <= schemas.keys()
    assert '"HTTPValidationError"' not in text
