"""Only markup goes in unescaped: any text comes back from the parser as it went in."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from secateur.report.markup import Markup, element, escape, join, raw

# What HTML itself forbids or normalises is left out: control characters, line ends.
text = st.text(st.characters(exclude_categories=("Cc", "Cs")))


class Reader(HTMLParser):
    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(text, text)
def test_any_text_survives_and_stays_text(content: str, attribute: str) -> None:
    read = Reader(element("p", content, title=attribute))
    assert read.text == content
    assert read.tags == [("p", {"title": attribute})]


@given(text)
def test_escaping_twice_is_escaping_once(content: str) -> None:
    assert escape(escape(content)) == escape(content)
    assert join([content, element("b", content)]) == escape(content) + element("b", content)


def test_attributes() -> None:
    written = element(
        "input", type="radio", for_="a", aria_label="b", checked=True, disabled=False, title=None, x=1 / 3
    )
    assert written == '<input type="radio" for="a" aria-label="b" checked x="0.333333">'


def test_what_is_vouched_for_is_left_alone() -> None:
    assert element("style", raw("a > b {}")) == "<style>a > b {}</style>"
    assert isinstance(element("p"), Markup)
