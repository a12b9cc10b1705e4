"""What MkDocs does besides its pages: README.md is the home page, and the command line's help is printed by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

HELP = "<!-- the help of every command -->"


def on_files(files: Any, config: Any) -> Any:
    """Add the home page: links into docs/ stay links, other files of the repository become their names."""
    text = (Path(config.config_file_path).parent / "README.md").read_text(encoding="utf-8")
    inside = text.replace("](docs/", "](")
    names = re.sub(r"\[[^\]]*\]\(((?:autocomp|examples|benchmarks)/[^)]*|[A-Z]+\.md)\)", r"`\1`", inside)
    files.append(File.generated(config, "index.md", content=names))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    return markdown.replace(HELP, "\n".join(_commands())) if HELP in markdown else markdown


def _commands() -> Iterator[str]:
    """A section for each command: what it does and its options, as ``--help`` knows them."""
    from typer.main import get_command

    from autocomp.cli.commands import app

    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        yield f"## autocomp {name}\n\n{command.help}\n\n| option | | meaning |\n|---|---|---|"
        for option in command.params:
            yield f"| `{'`, `'.join(option.opts)}` | {option.metavar or ''} | {getattr(option, 'help', None) or ''} |"
        example = (command.epilog or "").removeprefix("Example: ")
        yield f"\n```bash\n{example}\n```\n" if example else ""
