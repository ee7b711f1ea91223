"""docs/ingest.md lists what adapters state; `python -m tests.sources.adapters.test_page` writes its table."""

from pathlib import Path
from typing import Final

from sources.adapters import adapters

PAGE: Final = Path(__file__).parents[3] / "docs" / "ingest.md"
_HEAD: Final = "|---|---|---|---|---|---|\n"


def table() -> str:
    """The rows, by name."""
    rows = []
    for name, adapter in sorted(adapters().items()):
        stated = adapter.stated()
        cells = [f"`{name}`", stated["source"], stated["arrives"], stated["parameters"]]
        cells += [f"{stated['times']}; {stated['period']}, {stated['stamp']}", stated["correction"]]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return "".join(rows)


def test_the_page_lists_what_there_is() -> None:
    text = PAGE.read_text()
    assert text.split(_HEAD)[1] == table()


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text().split(_HEAD)[0] + _HEAD + table())
