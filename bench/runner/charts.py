"""Bar charts as SVG, written as text. A chart has a panel per row; each panel has its own scale."""
from html import escape

COLORS = {"ours": "#1f6feb", "raw": "#8c959f", "peer": "#d4a72c"}
WIDTH, LABEL, VALUE = 760, 230, 90
LINE, BAR, TITLE = 20, 13, 30
FONT = 'font-family="Helvetica, Arial, sans-serif" font-size="12"'


def number(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def text(x, y, content, extra=""):
    return f'<text x="{x}" y="{y}" {FONT} fill="#1f2328" {extra}>{escape(content)}</text>'


def panel(label, bars, top, more_is_better):
    """`bars`: (name, kind, value, low, high). Returns (lines of SVG, its height)."""
    bars = sorted(bars, key=lambda bar: bar[2], reverse=more_is_better)
    # One that is far above the others would make them all invisible: it is cut, and says so.
    usual = sorted(bar[2] for bar in bars)[len(bars) // 2]
    scale_max = min(max(bar[4] for bar in bars), 4 * usual) or 1
    room = WIDTH - LABEL - VALUE
    lines = [text(8, top + 15, label, 'font-weight="bold"')]
    for index, (name, kind, value, low, high) in enumerate(bars):
        y = top + LINE * (index + 1) + 4
        width = room * min(value / scale_max, 1)
        lines += [text(LABEL - 8, y + 11, name, 'text-anchor="end"'),
                  f'<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" '
                  f'fill="{COLORS[kind]}"/>',
                  *spread(y, room, low, high, scale_max),
                  text(WIDTH - VALUE + 8, y + 11, number(value) + ("  ▸" if value > scale_max
                                                                 else ""))]
    return lines, LINE * (len(bars) + 1) + 12


def spread(y, room, low, high, scale_max):
    """A thin line from the lowest to the highest round."""
    if high <= low:
        return []
    x1, x2 = (LABEL + room * min(value / scale_max, 1) for value in (low, high))
    middle = y + BAR / 2
    return [f'<line x1="{x1:.1f}" y1="{middle}" x2="{x2:.1f}" y2="{middle}" '
            'stroke="#1f2328" stroke-width="1"/>']


def chart(title, panels, more_is_better=False):
    """`panels`: (label, bars). The text of an SVG file."""
    body, top = [text(8, 20, title, 'font-weight="bold" style="font-size:15px"')], TITLE + 6
    for label, bars in panels:
        lines, height = panel(label, bars, top, more_is_better)
        body += lines
        top += height
    body.append(legend(top + 12))
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top + 24}" '
            f'viewBox="0 0 {WIDTH} {top + 24}">')
    return "\n".join([head, '<rect width="100%" height="100%" fill="#ffffff"/>', *body,
                      "</svg>", ""])


def legend(y):
    parts = []
    for index, (kind, label) in enumerate((("ours", "iocp"), ("peer", "peers"),
                                           ("raw", "references"))):
        x = LABEL + 110 * index
        parts.append(f'<rect x="{x}" y="{y - 10}" width="10" height="10" fill="{COLORS[kind]}"/>'
                     + text(x + 16, y, label))
    parts.append(text(LABEL + 330, y, "thin line: lowest to highest round"))
    return "\n".join(parts)
