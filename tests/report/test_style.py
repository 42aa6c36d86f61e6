"""The colours themselves, before any page uses them."""

import re
from importlib import resources

import pytest

STYLE = resources.files("spikformer.report").joinpath("assets/style.css").read_text()
COLORS = {
    name: (light, dark)
    for name, light, dark in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", STYLE)
}
TEXT = [
    ("ink", "paper"),
    ("ink", "panel"),
    ("ink", "heat"),
    ("quiet", "paper"),
    ("quiet", "panel"),
    ("accent", "paper"),
]
SHAPES = [("edge", "paper"), *((f"series-{n}", "paper") for n in (1, 2, 3, 4))]


def luminance(color):
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    darker, lighter = sorted((luminance(a), luminance(b)))
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_computed_right():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("front", "back", "least"), [(*p, 4.5) for p in TEXT] + [(*p, 3.0) for p in SHAPES]
)
def test_colours_stand_out(front, back, least, scheme):
    assert contrast(COLORS[front][scheme], COLORS[back][scheme]) >= least


def test_every_colour_that_is_used_is_defined():
    used = set(re.findall(r"var\(--([\w-]+)\)", STYLE)) - {"color"}
    assert used <= set(COLORS)
