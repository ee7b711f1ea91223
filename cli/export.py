"""`skyfuse export`: from a training run to a bundle that workers load (torch; the `train` extra)."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from backfill.hourly import read_folder
from cli.shared.training import TrainingLayout, bars, layout_of
from model.errors import TrainingError


def export_command(
    run: Annotated[Path, typer.Argument(help="Run folder of skyfuse train.")],
    bundle: Annotated[Path, typer.Argument(help="Bundle folder to write.")],
    name: Annotated[str, typer.Option(help="Name in the bundle's id.")] = "city",
    version: Annotated[str, typer.Option(help="Version in the bundle's id.")] = "1",
    int8: Annotated[
        Path | None,
        typer.Option("--int8", help="Quantise the encoder, calibrated on frames of this folder."),
    ] = None,
    layout: Annotated[
        TrainingLayout | None,
        typer.Option("--format", help="How that folder is laid out; else its files tell."),
    ] = None,
) -> None:
    """Make a bundle that workers load from a training run."""
    try:
        from model.training import export
        from model.training import run as training_run
    except ImportError as error:
        raise TrainingError(
            f"exporting needs the `train` extra ({error.name} is not installed): `./skyfuse train`"
            " in a checkout installs it; elsewhere add [train] to what you gave pip"
        ) from error
    with bars(Console(stderr=True)) as progress:
        written = export.export(bundle, export.load(run), name, version)
        if int8 is not None:
            frames = training_run.calibration_frames(
                training_run.Folder(int8, layout_of(int8, layout), read_folder)
            )
            written = export.quantise(written, bundle, frames, progress)
    typer.echo(f"{written.id} in {bundle}: set SKYFUSE_BUNDLE to use it")
