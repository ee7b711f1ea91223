"""Write the dashboards' JSON."""

from infra.dashboards.files import FOLDER, render


def main() -> None:
    """Write every dashboard that is not up to date, and say so."""
    for name, text in render().items():
        file = FOLDER / name
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
            print(f"wrote {file.name}")


if __name__ == "__main__":
    main()
