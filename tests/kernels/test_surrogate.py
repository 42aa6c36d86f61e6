import math

import pytest
import torch

from spikformer.errors import ConfigError
from spikformer.kernels.surrogate import DEFAULT_ALPHA, DERIVATIVES, steepness

BY_HAND = [
    # alpha sigma(ax) (1 - sigma(ax)): sigma(0) = 1/2; sigma(ln 3) = 3/4
    ("sigmoid", 4.0, 0.0, 1.0),
    ("sigmoid", 4.0, math.log(3) / 4, 4 * 3 / 16),
    ("sigmoid", 1.0, -math.log(3), 3 / 16),
    # (alpha / 2) / (1 + (pi / 2 alpha x)^2)
    ("atan", 2.0, 0.0, 1.0),
    ("atan", 2.0, 1 / math.pi, 0.5),
    ("atan", 2.0, -2 / math.pi, 0.2),
    # alpha max(0, 1 - alpha |x|)
    ("triangle", 1.0, 0.0, 1.0),
    ("triangle", 1.0, 0.25, 0.75),
    ("triangle", 2.0, -0.25, 1.0),
    ("triangle", 2.0, 0.5, 0.0),
    ("triangle", 1.0, -3.0, 0.0),
    # alpha where |x| < 1 / (2 alpha)
    ("rectangle", 1.0, 0.0, 1.0),
    ("rectangle", 1.0, -0.49, 1.0),
    ("rectangle", 1.0, 0.5, 0.0),
    ("rectangle", 2.0, 0.2, 2.0),
    ("rectangle", 2.0, 0.25, 0.0),
]


@pytest.mark.parametrize(("name", "alpha", "x", "slope"), BY_HAND)
def test_slopes_by_hand(name, alpha, x, slope):
    found = DERIVATIVES[name](torch.tensor(x, dtype=torch.float64), alpha)
    assert found.item() == pytest.approx(slope, abs=1e-15)


def test_every_surrogate_has_slopes_by_hand_and_a_usual_steepness():
    assert {name for name, *_ in BY_HAND} == set(DERIVATIVES) == set(DEFAULT_ALPHA)


@pytest.mark.parametrize("alpha", [1.0, 4.0])
@pytest.mark.parametrize("name", DERIVATIVES)
def test_the_area_under_every_surrogate_is_one(name, alpha):
    # Midpoints over +-1000 leave out the tails of atan: 4 / (pi^2 alpha 1000) < 5e-4.
    width = 1e-3
    x = torch.arange(-1000, 1000, width, dtype=torch.float64) + width / 2
    assert DERIVATIVES[name](x, alpha).sum().item() * width == pytest.approx(1, abs=5e-4)


@pytest.mark.parametrize("name", DERIVATIVES)
def test_surrogates_are_even_never_negative_and_highest_at_the_threshold(name):
    x = torch.arange(-500, 501, dtype=torch.float64) / 128
    slopes = DERIVATIVES[name](x, 2.0)
    assert (slopes >= 0).all()
    torch.testing.assert_close(slopes, slopes.flip(0), rtol=1e-12, atol=0)
    assert slopes.max() == DERIVATIVES[name](torch.zeros((), dtype=torch.float64), 2.0)


@pytest.mark.parametrize(
    ("name", "alpha"), [("sigmoid", 4.0), ("atan", 2.0), ("triangle", 1.0), ("rectangle", 1.0)]
)
def test_without_an_alpha_the_usual_one_is_taken(name, alpha):
    assert steepness(name, None) == alpha
    assert steepness(name, 7.0) == 7.0


def test_an_unknown_surrogate_lists_the_near_ones():
    with pytest.raises(ConfigError, match=r"unknown surrogate 'sigmoit'; did you mean sigmoid\?"):
        steepness("sigmoit", None)
    with pytest.raises(ConfigError, match="known: atan, rectangle, sigmoid, triangle"):
        steepness("???", None)


@pytest.mark.parametrize("alpha", [0.0, -1.0])
def test_a_steepness_that_is_not_positive_is_refused(alpha):
    with pytest.raises(ConfigError, match=f"alpha must be positive, got {alpha}"):
        steepness("sigmoid", alpha)
