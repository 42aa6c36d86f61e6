"""Pages of networks whose parts are others, and of recordings."""

from pathlib import Path

import pytest
from helpers.trainings import changed

from spikformer.report.page import write_report
from spikformer.training.fit import train

OWN = f"{Path(__file__).parents[2] / 'examples' / 'my_neuron.py'}:ConstantLeak"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "model", "says"),
    [
        ("digits", {"attention": "identity"}, "its attention is not 'ssa'"),
        ("digits", {"attention": "vsa"}, "its attention is not 'ssa'"),
        ("digits", {"neuron": OWN}, "its neurons are none of"),
        ("digits", {"neuron": "plif", "steps": 8}, "Draw a digit"),
        ("digits_dvs", {}, "it takes recordings of events"),
    ],
)
def test_the_page_of_any_network_opens(browser, tmp_path, recipe, model, says):
    settings = {f"model.{name}": value for name, value in model.items()}
    short = changed(recipe, settings, {"data.batch_size": 256}, epochs=1, accelerator="cpu")
    run = train(short, tmp_path / "run")
    own = {"neuron": OWN} if model.get("neuron") == OWN else {}
    tab = browser.page()
    tab.open(write_report(run.path, samples=30, **own))
    tab.wait("!!globalThis.report")
    if "Draw" in says:
        tab.click("#clear")
    assert says in tab.run("document.getElementById('drawing').textContent")
    assert tab.run("document.querySelectorAll('#image option').length") >= 4
    assert tab.run("document.getElementById('attention-says').textContent")
    assert tab.complaints == []
