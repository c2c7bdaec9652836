"""The command line: arguments to calls, and errors to one line."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from secateur.errors import SecateurError

app = typer.Typer(help="Prune neural networks.", no_args_is_help=True, add_completion=False)


DATA_HELP = "Digits come with scikit-learn. MNIST is read from the folder named in SECATEUR_DATA, or else downloaded."


class Data(StrEnum):
    """Data sets of the demo."""

    digits = "digits"
    mnist = "mnist"


class Model(StrEnum):
    """Networks of the demo."""

    mlp = "mlp"
    cnn = "cnn"
    both = "both"


@app.callback()
def main() -> None:
    """Prune neural networks in PyTorch and Keras: one exact core, the same masks in both."""


@app.command()
def demo(
    data: Annotated[Data, typer.Option(help=DATA_HELP)] = Data.digits,
    model: Annotated[Model | None, typer.Option(help="By default both; with MNIST the perceptron alone.")] = None,
    framework: Annotated[list[str], typer.Option(help="May be given again.")] = ["torch", "keras"],  # noqa: B006
    backend: Annotated[list[str], typer.Option(help="Of Keras: tensorflow, jax, torch. May be given again.")] = [],  # noqa: B006
    everything: Annotated[bool, typer.Option("--all", help="The whole product of recipes, not a subset.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of training part, initial weights and batches.")] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of the dense training; the rest in proportion.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for results.json, report.html and events.")] = Path("secateur-demo"),
) -> None:
    """Train, score, prune, fine-tune and shrink a network in every framework at hand, and compare them."""
    from secateur.demo import Options, run

    chosen = model or (Model.mlp if data is Data.mnist else Model.both)
    options = Options(
        data=data.value,
        models=("mlp", "cnn") if chosen is Model.both else (chosen.value,),
        frameworks=tuple(framework),
        backends=tuple(backend),
        everything=everything,
        seed=seed,
        epochs=epochs,
        out=out,
    )
    try:
        run(options)
    except SecateurError as error:
        typer.secho(f"error: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    app()
