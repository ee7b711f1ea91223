"""`skyfuse train`: train on a folder (the `train` extra). Torch is imported when it is run, not before."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backfill.hourly import read_folder
from cli.shared.fitting import screen
from cli.shared.training import TrainingLayout, bars, layout_of, tell_left_out
from datasets.provenance import Provenance
from model.errors import TrainingError

DATA: Final = "Air Pollution Image Dataset from India and Nepal (Rouniyar, Utomo, John A, Hsiung 2023)"
#: What has to be known of that data; goes into the card.
REMARKS: Final = (
    "The AQI values were read off portals of different national scales; classes have US EPA edges."
    " The concentration columns are taken as they stand. NO2, SO2, CO and O3 have no unit there: the bundle"
    " withholds them, neither reading nor telling them. PM10 agrees with official hourly ug/m3 at the same"
    " place. PM2.5 does in clean air and in Nepal; above about 60 at Indian portals it reads like India's"
    " sub-index, up to three times the concentration: at a site that was not trained on its interval is"
    " 1.75 times as wide, which covers that."
)
LICENCE: Final = "CC BY-NC-SA 3.0 IGO (non-commercial, share alike)"


class Ablation(StrEnum):
    """What is varied while everything else stays as configured."""

    alpha = "alpha"
    fusion = "fusion"
    masking = "masking"
    backbone = "backbone"
    fine_tuning = "fine-tuning"


def train_command(
    config: Annotated[
        str, typer.Argument(help="'robust', 'paper', or a .toml file like model/configs/robust.toml.")
    ],
    folder: Annotated[Path, typer.Argument(help="Folder of frames and readings.")],
    layout: Annotated[
        TrainingLayout | None,
        typer.Option("--format", help="How the folder is laid out; else its files tell."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="AQI standard to learn, such as in-naqi-2014, instead of the configuration's."),
    ] = None,
    concentrations: Annotated[
        Path | None,
        typer.Option(help="Plain folder with true concentrations of stations of an india-nepal folder."),
    ] = None,
    fine_tune: Annotated[
        int | None, typer.Option(min=1, max=8, help="Train the backbone's last so many blocks too.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Run folder: model, report, plots.")] = Path("runs/latest"),
    cache: Annotated[Path, typer.Option(help="Where encoded frames are kept.")] = Path(".skyfuse/features"),
    seed: Annotated[int | None, typer.Option(help="Another seed than the configuration's.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Another backbone than the configuration's.")] = None,
    data: Annotated[str, typer.Option(help="What the data is called in manifest and card.")] = "",
    licence: Annotated[str, typer.Option(help="The data's licence.")] = "",
    remarks: Annotated[str, typer.Option(help="What a user of the model has to know of the data.")] = "",
    ablation: Annotated[
        Ablation | None,
        typer.Option(help="Compare variants by grouped cross-validation instead of training."),
    ] = None,
) -> None:
    """Train on a folder: cross-validated report, calibrated intervals, and a model to export."""
    try:
        import torch

        from model.training import export
        from model.training import run as training_run
    except ImportError as error:
        raise TrainingError(
            f"training needs the `train` extra ({error.name} is not installed): `./skyfuse train`"
            " in a checkout installs it; elsewhere add [train] to what you gave pip"
        ) from error
    torch.set_num_threads(max(1, torch.get_num_threads()))
    changes: dict[str, Any] = {
        key: value
        for key, value in (("seed", seed), ("backbone", backbone), ("target", target))
        if value is not None
    }
    if fine_tune is not None:
        changes["fine_tune"] = {"blocks": fine_tune}
    source = training_run.Folder(folder, layout_of(folder, layout), read_folder, concentrations)
    if source.layout == TrainingLayout.india_nepal:
        data, licence, remarks = data or DATA, licence or LICENCE, remarks or REMARKS
    console = Console(stderr=True)
    with bars(console) as progress:
        if ablation is not None:
            rows = training_run.ablation(ablation.value, config, source, cache, progress, changes)
        else:
            trained, problems = training_run.run(
                config, source, output, cache, progress, changes,
                Provenance(data or folder.name, licence or "not stated", remarks),
            )  # fmt: skip
    if ablation is not None:
        table = Table("variant", box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for mask in ("all inputs", "no pm", "image only"):
            table.add_column(mask, no_wrap=True)
        for name, entry in rows.items():
            if "missing" in entry:
                console.print(f"{escape(name)}: {escape(entry['missing'])}")
                continue
            cells = [
                f"{entry[mask]['rmse']:.1f} / {100 * entry[mask]['accuracy']:.0f} %"
                for mask in ("all", "no pm", "image only")
            ]
            table.add_row(name, *cells)
        result = screen()
        result.print(f"{config}: {ablation.value}, grouped; AQI, RMSE / accuracy")
        result.print(table)
        return
    export.save(output, trained)
    tell_left_out(problems)
    all_inputs = trained.report["grouped"]["all"]["aqi"]["model"]
    console.print(
        f"grouped: RMSE {all_inputs['rmse']:.1f}, accuracy {100 * all_inputs['accuracy']:.0f} %;"
        f" report in {output / 'report.md'}; make a bundle with: skyfuse export {output} BUNDLE"
    )
