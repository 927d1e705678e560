"""The `evaluation` section: which suites, which methods and ablations, on how many tasks. Imports nothing heavy."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from env.config import JudgeConfig, Section

Overrides = list[str]


class SuiteConfig(Section):
    """A suite with its options, e.g. `{suite: hotpotqa, options: {docs: 200, data: dev.json.gz}}`."""

    suite: str = Field(description="a name of evaluation/suites, or package.module:Class")
    name: str | None = Field(None, pattern=r"^[\w.-]+$", description="in tables; None: suite and number of documents")
    options: dict[str, Any] = {}
    tasks: int | None = Field(None, ge=1, description="fewer than evaluation.tasks")
    set: Overrides = Field([], description="overrides of env.* for this suite, e.g. env.capacity=20")

    @property
    def label(self) -> str:
        """The name in tables and folders."""
        if self.name:
            return self.name
        stem = self.suite.rpartition(":")[2]
        return f"{stem}-{self.options['docs']}" if "docs" in self.options else stem


class VariantConfig(Section):
    """A row of the tables: a method, or an ablation of it as overrides of `env.*` and `rollout.sampling.*`."""

    method: str = Field("atommem", description="a name of evaluation/methods, or package.module:Class")
    name: str | None = Field(None, pattern=r"^[\w.-]+$", description="in tables; None: the method's")
    options: dict[str, Any] = Field({}, description="of the method, e.g. {documents: 6} of rag")
    set: Overrides = []
    model: str | None = Field(None, description="another checkpoint of the same model; None: the run's")

    @property
    def label(self) -> str:
        """The name in tables and folders."""
        return self.name or self.method.rpartition(":")[2]


class PriceConfig(Section):
    """What a million tokens cost, in any currency."""

    input: float = Field(0.0, ge=0)
    cached_input: float = Field(0.0, ge=0, description="input tokens found in the prefix cache")
    output: float = Field(0.0, ge=0)


class EvaluationConfig(Section):
    """Every suite with every variant: one cell of the tables each."""

    tasks: int = Field(100, ge=1, description="per suite; a suite with fewer gives what it has")
    seed: int = Field(1234, description="of the tasks; also of sampling where the temperature is above 0")
    temperature: float = Field(0.0, ge=0, description="0: greedy, and the same result every time")
    suites: list[SuiteConfig] = [SuiteConfig(suite="registry")]
    variants: list[VariantConfig] = [VariantConfig()]
    judge: JudgeConfig | None = Field(None, description="also grades every answer, where it is set")
    price: PriceConfig = PriceConfig()

    def tasks_of(self, suite: SuiteConfig) -> int:
        """How many of a suite's tasks are run."""
        return min(self.tasks, suite.tasks or self.tasks)

    @model_validator(mode="after")
    def _labels_differ(self) -> EvaluationConfig:
        for kind, items in (("suites", self.suites), ("variants", self.variants)):
            labels = [item.label for item in items]  # type: ignore[attr-defined]
            if twice := sorted({label for label in labels if labels.count(label) > 1}):
                raise ValueError(f"{kind}: two are called {twice[0]!r}; give one of them a name")
        return self
