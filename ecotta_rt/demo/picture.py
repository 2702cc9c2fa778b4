"""The demo's errors as a picture: SVG, written by hand, since a device has nothing that draws."""

from ecotta_rt.demo.ladder import WAYS, Outcome
from ecotta_rt.demo.shipped import Stream

__all__ = ["draw"]

_COLOURS = ("#999999", "#56b4e9", "#009e73", "#d55e00")  # Okabe and Ito's, which the colour-blind can tell apart
_BAR, _GAP, _HEIGHT = 9, 14, 220  # pixels
_LEFT, _TOP, _BOTTOM = 50, 50, 110
_STEP = 10  # per cent between two lines


def draw(stream: Stream, outcome: Outcome) -> str:
    """Bars by corruption and, last, over all frames."""
    groups = [
        *((name, [float(outcome.wrong[way][i].mean()) for way in WAYS]) for i, name in enumerate(stream.corruptions)),
        ("all", [float(outcome.wrong[way].mean()) for way in WAYS]),
    ]
    most = max(_STEP, *(_STEP * (int(100 * max(errors)) // _STEP + 1) for _, errors in groups))
    width = _LEFT + len(groups) * (len(WAYS) * _BAR + _GAP) + 20
    parts = [*_lines(most, width), *_legend()]
    for place, (name, errors) in enumerate(groups):
        x = _LEFT + _GAP / 2 + place * (len(WAYS) * _BAR + _GAP)
        parts += [_bar(x + i * _BAR, 100 * error / most, _COLOURS[i]) for i, error in enumerate(errors)]
        parts.append(_name(x + len(WAYS) * _BAR / 2, name))
    height = _TOP + _HEIGHT + _BOTTOM
    font = 'font-family="sans-serif" font-size="12"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {font}>'
        f'<rect width="{width}" height="{height}" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _lines(most: int, width: int) -> list[str]:
    found = [f'<text x="{_LEFT}" y="{_TOP - 12}" text-anchor="end">error %</text>']
    for percent in range(0, most + 1, _STEP):
        y = _TOP + _HEIGHT * (1 - percent / most)
        found.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{width - 10}" y2="{y:.1f}" stroke="#dddddd"/>')
        found.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{percent}</text>')
    return found


def _legend() -> list[str]:
    found = []
    for place, (way, colour) in enumerate(zip(WAYS, _COLOURS, strict=True)):
        x = _LEFT + 30 + 120 * place
        found.append(f'<rect x="{x}" y="10" width="12" height="12" fill="{colour}"/>')
        found.append(f'<text x="{x + 18}" y="20">{way}</text>')
    return found


def _bar(x: float, share: float, colour: str) -> str:
    height = _HEIGHT * share
    y = _TOP + _HEIGHT - height
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{_BAR - 1}" height="{height:.1f}" fill="{colour}"/>'


def _name(x: float, name: str) -> str:
    y = _TOP + _HEIGHT + 12
    turned = f'transform="rotate(-45 {x:.1f} {y})"'
    return f'<text x="{x:.1f}" y="{y}" text-anchor="end" {turned}>{name.replace("_", " ")}</text>'
