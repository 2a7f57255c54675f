"""Whatever is not made as markup is text, wherever it stands."""

from __future__ import annotations

from html.parser import HTMLParser

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pipaid.reporting.markup import Markup, data_block, table, tag

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=60) | st.sampled_from(
    ["</script><script>alert(1)</script>", "<!--<script>", '"><img src=x onerror=alert(1)>', "]]>", "&lt;", "\u2028"]
)


class Reading(HTMLParser):
    """The elements of a page, with their attributes and texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[int] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self._open.append(len(self.elements))
        self.elements.append((tag, dict(attrs)))
        self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag, "elements lie within each other"

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open[-1]] += data


def test_an_element_has_its_attributes_and_its_children() -> None:
    assert tag("p", "a", tag("b", "c"), class_="x", aria_label="y") == '<p class="x" aria-label="y">a<b>c</b></p>'


@given(WORDS)
def test_words_stay_words(words: str) -> None:
    reading = Reading(tag("p", words, title=words))

    assert reading.elements == [("p", {"title": words})]
    assert reading.texts == [words]


@given(WORDS, WORDS)
def test_data_comes_out_as_it_went_in(key: str, value: str) -> None:
    block = data_block("data", {key: [value]})

    reading = Reading(block)
    assert [name for name, _ in reading.elements] == ["script"]
    assert msgspec.json.decode(reading.texts[0]) == {key: [value]}
    assert not set("<>&\u2028\u2029") & set(reading.texts[0])


def test_a_table_escapes_its_cells_and_marks_its_numbers() -> None:
    made = table(("Name", "Count"), [("<b>", "1"), (tag("i", "x"), "2")], numbers=(1,))

    reading = Reading(made)
    names = [name for name, _ in reading.elements]
    assert names.count("tr") == 3
    assert "b" not in names
    assert "i" in names
    assert [told.get("class") for name, told in reading.elements if name == "td"] == [None, "number", None, "number"]


def test_markup_is_not_escaped_twice() -> None:
    assert tag("p", Markup("&amp;"), "&") == "<p>&amp;&amp;</p>"
