"""Docstrings as Markdown: roles become links, doctests become code blocks, lines such as ``name: text`` a list."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|attr):`~?([\w.]+)`")
DOCTEST = re.compile(r"(?:^>>> .*\n?)(?:^(?!\s*$).*\n?)*", re.MULTILINE)
FIELD = re.compile(r"^([a-z_]\w*(?:, \w+)*): (?=\S)", re.MULTILINE)


class Markdown(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value, obj)


def markdown(text: str, obj: griffe.Object) -> str:
    text = ROLE.sub(lambda role: _link(role[1], obj), text)
    text = DOCTEST.sub(lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", text)
    return re.sub(r"(?<!\n)\n(?=\* `\w)", "\n\n", FIELD.sub(r"* `\1`: ", text), count=1)


def _link(name: str, obj: griffe.Object) -> str:
    """A link where the name is documented, else code: autorefs leaves an optional one as it is."""
    try:
        target = obj.resolve(name)
    except griffe.NameResolutionError:
        target = name
    return f'<autoref identifier="{target}" optional><code>{name}</code></autoref>'
