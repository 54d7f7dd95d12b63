"""A picture of the time of a step, as an SVG: a panel for each training, a bar for each phase."""

from markupsafe import Markup

from chexdist.report.axis import Axis
from chexdist.report.lettering import text_width

ROW, TOP, PANEL, GAP, TYPE = 24, 44, 260, 26, 13
STYLE = Markup(
    "<style>text{font:13px -apple-system,'Segoe UI',Roboto,'Liberation Sans',Arial,sans-serif;fill:#1b2430}"
    ".title{font-weight:600}.soft{fill:#586271;font-size:12px}.bar{fill:#0b62a8}.grid{stroke:#dcdfe4}"
    ".axis{stroke:#586271}</style>"
)


def bars(title: str, panels: dict[str, dict[str, float]]) -> str:
    """An SVG of milliseconds by phase, of each training; phases in the order of the first one, all of the
    same names.
    """
    phases = list(next(iter(panels.values())))
    left = 16 + max(text_width(name, TYPE) for name in phases)
    bottom = TOP + 22 + ROW * len(phases)
    width, height = round(left + len(panels) * (PANEL + GAP)), bottom + 26
    parts = [STYLE, Markup('<rect width="{}" height="{}" fill="#fff"/>').format(width, height)]
    parts.append(Markup('<text class="title" x="8" y="20">{}</text>').format(title))
    for row, name in enumerate(phases):
        parts.append(
            Markup('<text x="{:g}" y="{}" text-anchor="end">{}</text>').format(
                left - 8, TOP + 22 + ROW * row + 16, name
            )
        )
    for number, (name, found) in enumerate(panels.items()):
        parts.append(_panel(name, found, left + number * (PANEL + GAP), bottom))
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}" role="img" '
        'aria-label="{2}">{3}</svg>\n'
    ).format(width, height, title, Markup("").join(parts))


def _panel(name: str, found: dict[str, float], left: float, bottom: int) -> Markup:
    """Bars from zero; each with its milliseconds and its share of the batch."""
    total = sum(found.values())
    texts = [f"{value:.2f} ms, {value / total:.0%}" for value in found.values()]
    room = 12 + max(text_width(text, 12) for text in texts)
    x = Axis.over([0.0, *found.values()], left, left + PANEL - room)
    parts = [
        Markup('<text class="title" x="{:g}" y="{}">{}: {:.1f} ms a batch</text>').format(
            left, TOP + 8, name, total
        )
    ]
    for tick in x.ticks(3):
        parts.append(
            Markup('<path class="grid" d="M{0} {1}V{2}"/><text class="soft" x="{0}" y="{3}" ').format(
                x(tick), TOP + 20, bottom, bottom + 16
            )
            + Markup('text-anchor="middle">{:g}</text>').format(tick)
        )
    for row, (value, text) in enumerate(zip(found.values(), texts, strict=True)):
        y = TOP + 22 + ROW * row
        parts.append(
            Markup('<rect class="bar" x="{:g}" y="{}" width="{:g}" height="{}"/>').format(
                x(0), y + 4, max(0.5, x(value) - x(0)), ROW - 8
            )
            + Markup('<text class="soft" x="{:g}" y="{}">{}</text>').format(x(value) + 6, y + 16, text)
        )
    parts.append(Markup('<path class="axis" d="M{} {}V{}"/>').format(x(0), TOP + 20, bottom))
    return Markup("").join(parts)
