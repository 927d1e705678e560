"""Text embedders behind one protocol: hashing (no model), sentence-transformers, OpenAI-compatible endpoint.

All return float32 rows of unit length, so that an inner product is the cosine similarity.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from env.config import EmbedderConfig, HashingEmbedderConfig, OpenAIEmbedderConfig, SentenceTransformerConfig
from env.errors import EmbeddingError, UserError

Kind = Literal["passage", "query"]
_RETRIES = 2  # of the OpenAI client at any rate, within about a second
_LONGEST_PAUSE_S = 8.0  # between two of its retries; it begins with half a second and doubles


class Embedder(Protocol):
    """Turns texts into vectors; called from one thread at a time."""

    dim: int

    def embed(self, texts: Sequence[str], kind: Kind) -> np.ndarray:
        """Float32 [len(texts), dim], rows of unit length, for at least one text. Raises EmbeddingError."""
        ...


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """L2-normalise the rows of a float [n, dim] array; rows of zeros stay zero. Returns float32."""
    vectors = np.asarray(vectors, dtype=np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms == 0, 1, norms)


class HashingEmbedder:
    """Word counts hashed into `dim` signed buckets: lexical similarity, no model, no state.

    A text without any word character is the zero vector: equally far from everything.
    """

    def __init__(self, config: HashingEmbedderConfig):
        from sklearn.feature_extraction.text import HashingVectorizer

        self.dim = config.dim
        # One-letter words count (the default pattern drops them): "5" and "B" can be all there is.
        self._vectorizer = HashingVectorizer(n_features=config.dim, norm="l2", token_pattern=r"(?u)\b\w+\b")

    def embed(self, texts: Sequence[str], kind: Kind) -> np.ndarray:
        """See `Embedder.embed`. Queries and passages are treated alike."""
        return unit_rows(self._vectorizer.transform(texts).toarray())


def resolve_model(model: str) -> str:
    """`package:subdir` as a directory of the installed package; a directory or a hub name as it is."""
    package, colon, subdir = model.partition(":")
    if Path(model).is_dir() or not colon:
        return model
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"env.embedder.model {model!r}: the Python package {package!r} is not installed")
    directory = Path(spec.submodule_search_locations[0]) / subdir
    if not directory.is_dir():
        raise UserError(f"env.embedder.model {model!r}: the package has no directory {subdir!r}")
    return str(directory)


class SentenceTransformerEmbedder:
    """A sentence-transformers model. `query_instruction` is put before queries, never before passages."""

    def __init__(self, config: SentenceTransformerConfig):
        from sentence_transformers import SentenceTransformer

        path = resolve_model(config.model)
        try:
            self._model = SentenceTransformer(path, device=config.device)
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"env.embedder.model {config.model!r} cannot be loaded ({reason}); give a directory, "
                "`package:subdir` of an installed package, or a hub name"
            ) from error
        self._instruction = config.query_instruction or None
        dim = self._model.get_embedding_dimension()
        if dim is None:
            raise UserError(f"env.embedder.model {config.model!r} has no dimension: not an embedding model")
        self.dim = dim

    def embed(self, texts: Sequence[str], kind: Kind) -> np.ndarray:
        """See `Embedder.embed`. Texts beyond the model's window are cut by the model."""
        prompt = self._instruction if kind == "query" else None
        try:
            vectors = self._model.encode(list(texts), prompt=prompt, show_progress_bar=False)
        except RuntimeError as error:
            raise EmbeddingError(f"the embedding model failed on {len(texts)} texts: {error}") from error
        return unit_rows(np.asarray(vectors))


class OpenAIEmbedder:
    """An OpenAI-compatible `/v1/embeddings` endpoint; `query_instruction` is put before queries only."""

    def __init__(self, config: OpenAIEmbedderConfig):
        from openai import OpenAI

        self._config = config
        self.dim = config.dim
        key = os.environ.get(config.api_key_env) or "none"  # the client insists on one, local servers do not
        retries = _RETRIES + math.ceil(config.recovery_timeout_s / _LONGEST_PAUSE_S)
        self._client = OpenAI(
            base_url=config.base_url, api_key=key, timeout=config.timeout_s, max_retries=retries
        )

    def embed(self, texts: Sequence[str], kind: Kind) -> np.ndarray:
        """See `Embedder.embed`. The client retries lost connections, time-outs, 429 and 5xx, ever more slowly."""
        from openai import OpenAIError

        prefix = self._config.query_instruction if kind == "query" else ""
        try:
            response = self._client.embeddings.create(
                model=self._config.model, input=[prefix + text for text in texts], encoding_format="float"
            )
            rows = [item.embedding for item in sorted(response.data or [], key=lambda item: item.index)]
        except (OpenAIError, ValueError, AttributeError, TypeError) as error:
            # The last three: a body that is no JSON, or JSON of another shape than embeddings.
            raise EmbeddingError(f"{self._where()}: {type(error).__name__}: {error}") from error
        return unit_rows(self._checked(rows, len(texts)))

    def _checked(self, rows: list[list[float]], count: int) -> np.ndarray:
        lengths = {len(row) for row in rows}
        if len(rows) != count or lengths != {self.dim}:
            raise EmbeddingError(
                f"{self._where()}: asked for {count} vectors of {self.dim} dimensions (env.embedder.dim), "
                f"got {len(rows)} of {sorted(lengths)}"
            )
        return np.asarray(rows, dtype=np.float32)

    def _where(self) -> str:
        return f"embedding endpoint {self._config.base_url}, model {self._config.model!r}"


def make_embedder(config: EmbedderConfig, patient: bool = True) -> Embedder:
    """The embedder that the configuration names; not ``patient``: an endpoint that is down is an error at once.

    Raises UserError when its model cannot be loaded.
    """
    match config:
        case HashingEmbedderConfig():
            return HashingEmbedder(config)
        case SentenceTransformerConfig():
            return SentenceTransformerEmbedder(config)
        case OpenAIEmbedderConfig():
            return OpenAIEmbedder(config if patient else config.model_copy(update={"recovery_timeout_s": 0.0}))
