"""`skyfuse bench`: a benchmark of the checkout."""

import importlib
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

#: What follows the name is the benchmark's own.
CONTEXT: Final = {"allow_extra_args": True, "ignore_unknown_options": True}


def bench(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Which benchmark; none: list them.")] = None,
) -> None:
    """Run a benchmark; it ends in one JSON line."""
    folder = Path(__file__).resolve().parent.parent / "benchmarks"
    names = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))
    if not names:
        raise typer.BadParameter(
            "benchmarks are no part of an installed package: run `./skyfuse bench` in a checkout"
        )
    if name is None:
        typer.echo("\n".join(names))
        return
    if name not in names:
        raise typer.BadParameter(f"no benchmark {name!r}; there are: {', '.join(names)}")
    # A checkout's folder, not an installed package: the wrapper keeps it off the path.
    sys.path.insert(0, str(folder.parent))
    raise typer.Exit(importlib.import_module(f"benchmarks.{name}").main(context.args))
