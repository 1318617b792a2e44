"""Write the README's table of settings from the class: `python docs/make_settings_table.py`, or `make docs`.

What belongs here: putting the table between the README's two markers. What does not: its rows, which
`milton_assets.settings.describe` makes.
"""

from __future__ import annotations

from pathlib import Path

from milton_assets.settings.describe import table

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN = "<!-- settings: made by docs/make_settings_table.py -->\n"
END = "<!-- end of settings -->\n"


def with_table(readme: str) -> str:
    """The README with the table as the class has it now."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text("utf-8")), "utf-8")
