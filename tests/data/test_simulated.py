import numpy as np
import pytest

from spikformer.data.simulated import DARKEST, events_from_images
from spikformer.errors import ConfigError

DRAW = np.random.default_rng(0)
BLOB = np.exp(-((np.mgrid[:15, :15] - 7) ** 2).sum(0) / 8)


def test_a_blank_picture_shows_nothing():
    (found,) = events_from_images(np.full((1, 6, 6), 0.4))
    assert len(found) == 0


def test_pixels_follow_their_brightness_within_a_threshold():
    # What a pixel's events add up to is its change of log intensity, up to less than one more event.
    threshold, steps = 0.1, 40
    for loops, at in ((1, 0.0), (1, 0.25)):
        turned = np.roll(BLOB, round(4 * at), 1)[None]
        (found,) = events_from_images(turned, threshold=threshold, loops=loops, steps=steps)
        total = np.zeros((15, 15))
        np.add.at(total, (found.y, found.x), np.where(found.p, 1, -1))
        # The loop ends where it began: nothing is left but what is below a threshold.
        assert np.abs(total).max() <= 1
        assert len(found) > 300


def test_a_half_turn_shows_the_difference_of_two_places():
    threshold = 0.05
    (found,) = events_from_images(BLOB[None], threshold=threshold, radius=2, loops=1, duration=1000)
    half = found.between(0, 501)
    total = np.zeros((15, 15))
    np.add.at(total, (half.y, half.x), np.where(half.p, threshold, -threshold))
    # Half way round the picture lies two radii away.
    moved = np.log(np.roll(BLOB, -4, 0) + DARKEST) - np.log(BLOB + DARKEST)
    assert np.abs(total - moved)[:10].max() <= threshold + 1e-9


def test_events_are_in_order_and_inside():
    found = events_from_images(DRAW.random((5, 9, 11)), duration=3000)
    assert len(found) == 5
    for each in found:
        assert (np.diff(each.t) >= 0).all()
        assert each.t.min() >= 0
        assert each.t.max() <= 3000
        assert each.x.max() < 11
        assert each.y.max() < 9


def test_a_picture_is_filmed_alike_alone_and_among_others():
    images = DRAW.random((3, 8, 8))
    together, (alone,) = events_from_images(images), events_from_images(images[1:2])
    assert all((getattr(together[1], f) == getattr(alone, f)).all() for f in "txyp")


def test_finer_thresholds_show_more():
    counts = [len(events_from_images(BLOB[None], threshold=x)[0]) for x in (0.4, 0.2, 0.1)]
    assert counts[0] < counts[1] < counts[2]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"threshold": 0}, "threshold must be positive, got 0"),
        ({"duration": -1}, "duration must be positive, got -1"),
        ({"steps": 0}, "steps must be positive, got 0"),
    ],
)
def test_numbers_out_of_range_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        events_from_images(BLOB[None], **fields)


def test_pixels_of_255_are_refused():
    with pytest.raises(ConfigError, match="intensities must be from 0 to 1"):
        events_from_images(BLOB[None] * 255)
