import pytest
import torch
from helpers.networks import tiny

from spikformer import Spikformer
from spikformer.energy import profile
from spikformer.errors import ConfigError
from spikformer.probe import anytime, energy_by_step


class Told(Spikformer):
    """Answers with logits it was given, [T, B, K]."""

    def __init__(self, logits):
        super().__init__(1, 8, 1)
        self.logits = logits

    def forward_steps(self, images):
        return self.logits[:, images[:, 0, 0, 0].long()]


def test_the_last_step_is_the_usual_accuracy():
    model = tiny().eval()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(40, 3, 8, 8, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        labels = model(images).argmax(1)
    labels[::4] = (labels[::4] + 1) % 5
    found = anytime(model, [(images[:25], labels[:25]), (images[25:], labels[25:])])
    assert found.top1[-1] == 0.75
    assert len(found.top1) == len(found.confidence) == model.steps


def test_each_sample_stops_where_it_is_sure():
    sure, torn = [9.0, 0.0], [0.1, 0.0]
    wrong = [0.0, 9.0]
    logits = torch.tensor([[sure, torn, torn], [torn, sure, torn], [torn, wrong, torn]])
    images = torch.arange(3.0).view(3, 1, 1, 1)
    found = anytime(Told(logits), [(images, torch.zeros(3, dtype=torch.int64))], thresholds=(0.9,))
    # the first stops after step 1, the second after 2 (its mean then is 4.55), the third never
    assert found.exit_steps == [2.0]
    assert found.exit_top1 == [1.0]
    # of all three steps, the second's mean is 3.03 to 3: right by a hair
    assert found.top1 == [1.0, 1.0, 1.0]
    assert found.confidence[0] < found.confidence[1]


def test_nothing_to_answer_is_refused():
    with pytest.raises(ConfigError, match="no batch"):
        anytime(tiny(), [])


@pytest.mark.parametrize("frames", [False, True])
def test_energy_grows_with_every_step_to_that_of_all(frames):
    model = tiny()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(
        3, *([4] if frames else []), 3, 8, 8, dtype=torch.float64, generator=generator
    )
    found = energy_by_step(model, [images])
    whole = profile(model, [images]).energy_mj()
    for name in ("spikformer", "spikformer-strict", "with-memory"):
        assert found[name][-1] == whole[name]
        assert found[name] == sorted(found[name])
        assert found[name][0] > 0
    assert found["ann-twin"] == pytest.approx([whole["ann-twin"]] * 4)
    assert model.steps == 4
