"""docs/reference/configuration.md, made from the options; ``python -m federation.cli.options_page`` writes it."""

from __future__ import annotations

from pathlib import Path

from federation.config import GROUPS, variable

PAGE = Path("docs/reference/configuration.md")
_HEAD = """# Configuration

Command line over environment over file over default. The file is INI (`--config FILE`, or
`/etc/federation/federation.conf`), an option of the group `manager` stands under `[manager]`. For each variable
`NAME`, `NAME_FILE` names a file that holds the value: use it for URLs with passwords.

A worker's driver has its own file, TOML with a `[driver]` table (`federation worker --driver-config FILE`); the driver's
page says what it holds.
"""


def render() -> str:
    """The page."""
    lines = [_HEAD]
    for group, options in GROUPS.items():
        lines += [f"## `[{group}]`", "", "| option | variable | default | |", "|---|---|---|---|"]
        for option in options:
            default = "" if option.default is None or option.secret else f"`{option.default}`"
            lines.append(f"| `{option.name}` | `{variable(group, option.name)}` | {default} | {option.help} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
