"""A report as a reader without a browser sees it: its tags, attributes, texts, tables and pictures."""

import base64
import io
from html.parser import HTMLParser

from PIL import Image


class Page(HTMLParser):
    """What is in a page; every attribute of every tag, and the cells of every table."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.texts.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    @property
    def names(self) -> set[str]:
        return {tag for tag, _ in self.tags}

    @property
    def pictures(self) -> list[tuple[bytes, Image.Image]]:
        """The bytes of each embedded picture, and the picture."""
        found = []
        for tag, attributes in self.tags:
            if tag == "img":
                prefix, _, data = (attributes["src"] or "").partition(",")
                assert prefix == "data:image/png;base64"
                content = base64.b64decode(data, validate=True)
                found.append((content, Image.open(io.BytesIO(content))))
        return found
