"""The dashboards as files: what `python -m infra.dashboards` writes and Grafana's provisioning reads."""

import json
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from infra.dashboards import city, fleet, forecast, model, pipeline, quality, station

FOLDER: Final = Path(__file__).parents[1] / "grafana" / "dashboards"


def render() -> dict[str, str]:
    """JSON by file name."""
    files = {}
    for part in (city, station, forecast, fleet, quality, pipeline, model):
        dashboard = part.build().build()
        for number, panel in enumerate(dashboard.panels or (), 1):
            panel.id_val = number
        name = part.__name__.rpartition(".")[2]
        files[f"{name}.json"] = json.dumps(dashboard, cls=JSONEncoder, indent=1, sort_keys=True) + "\n"
    return files
