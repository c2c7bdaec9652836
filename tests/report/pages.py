"""Reads a page as a browser would, strictly: every element closed, every id once, every link inside the page found."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "input", "br", "hr", "img", "link", "col", "wbr"}
BLOCKS = {"div", "p", "table", "figure", "section", "ul", "ol", "dl", "h1", "h2", "h3", "details"}


class PageReader(HTMLParser):
    """Attributes of every element by tag, ids, the text outside scripts and styles, and the scripts themselves."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.scripts: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == [], f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> has an attribute twice"
        assert not (tag in BLOCKS and "p" in self._open), f"<{tag}> inside a paragraph"
        self.elements.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            self.scripts[-1] += data
        elif self._open and self._open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def figures(self) -> list[dict[str, Any]]:
        (data,) = [
            script
            for script, attributes in zip(self.scripts, self.all("script"), strict=True)
            if attributes.get("id") == "data"
        ]
        figures: list[dict[str, Any]] = json.loads(data)["figures"]
        return figures
