"""The page: sections, tables and figures put together into one file that needs nothing but itself.

Nothing on the page can load anything: style, scripts, figures and plotly's library stand in the file, and a content
security policy forbids every request and every script but those two, which it knows by their hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

from secateur.errors import MissingDependencyError
from secateur.report.markup import Markup, element, join, raw
from secateur.report.palette import dark_counterparts, style_sheet


class Page:
    """Collects sections and figures, then becomes a page.

    Args:
        title: heading and title of the page.
        facts: short facts that stand under the heading.
    """

    def __init__(self, title: str, facts: Sequence[str] = ()) -> None:
        self.title = title
        self.facts = tuple(facts)
        self._figures: list[dict[str, Any]] = []
        self._sections: list[tuple[str, Markup]] = []

    def add(self, title: str, *blocks: Markup, lead: str = "") -> None:
        """Add a section with one sentence that leads into it; a section without any block is left out."""
        filled = [block for block in blocks if block]
        if filled:
            heading = element("h2", title)
            self._sections.append((title, join((heading, element("p", lead, class_="lead") if lead else "", *filled))))

    def figure(self, drawn: Any, title: str, note: str = "", wide: bool = False) -> Markup:
        """Put a plotly figure on the page, with its title above it and a note below."""
        number = len(self._figures)
        content = json.loads(drawn.to_json())
        self._figures.append({"data": content["data"], "layout": content["layout"]})
        chart = element(
            "div",
            class_="chart",
            id=f"figure-{number}",
            role="img",
            aria_label=title,
            style=f"height:{content['layout']['height']}px",
        )
        caption = element("figcaption", element("strong", title), note and element("span", note))
        return element("figure", caption, element("div", chart, class_="scroll"), class_="wide" if wide else None)

    def render(self) -> str:
        """The whole file."""
        sections = [(f"section-{number}", title, body) for number, (title, body) in enumerate(self._sections, start=1)]
        contents = element(
            "nav",
            element("p", "Contents"),
            element("ol", *(element("li", element("a", title, href=f"#{key}")) for key, title, _ in sections)),
            aria_label="Contents",
        )
        facts = element("p", *(element("span", fact) for fact in self.facts), class_="facts")
        main = element(
            "main",
            element("header", element("h1", self.title), facts),
            *(element("section", body, id=key) for key, _, body in sections),
        )
        return _document(self.title, join((element("div", contents, main, class_="page"),)), self._figures)


def _document(title: str, body: Markup, figures: list[dict[str, Any]]) -> str:
    scripts = [_plotly_library(), _asset("page.js")] if figures else []
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content="secateur"),
        element("title", title),
        element("style", raw(style_sheet() + _asset("page.css"))),
    )
    data = {"figures": figures, "dark": dark_counterparts()}
    parts = [element("script", raw(_safe_json(data)), type="application/json", id="data")] if figures else []
    parts += [element("script", raw(script)) for script in scripts]
    return "<!DOCTYPE html>\n" + element("html", head, "\n", element("body", body, *parts), lang="en") + "\n"


def _policy(scripts: Iterable[str]) -> str:
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes) or "'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _safe_json(data: Any) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plotly_library() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingDependencyError("reports are drawn with plotly: pip install 'secateur[report]'") from error
    return str(get_plotlyjs())


def _asset(name: str) -> str:
    return resources.files("secateur.report").joinpath(name).read_text(encoding="utf-8")
