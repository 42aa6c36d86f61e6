"""A run that says little but holds everything, its page, and a browser to open it in."""

import tempfile

import pytest
from helpers.chromium import chromium, find_chromium
from helpers.trainings import digits
from safetensors import safe_open
from safetensors.torch import save_file

from spikformer.report.collect import collect
from spikformer.report.page import render
from spikformer.training.fit import train

HOSTILE = "<img src=x onerror=hacked=1>"
"""The name of the run's folder, which the page must show as it is."""


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    recipe = digits({"data.batch_size": 128}, epochs=1, accelerator="cpu")
    done = train(recipe, tmp_path_factory.mktemp("report") / HOSTILE)
    enliven(done.best)
    return done


def enliven(path):
    """After an epoch few neurons fire, and maps would be empty: shift what they receive."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name in weights:
        if name.endswith("norm.bias"):
            weights[name] += 1.0
    save_file(weights, path, metadata=metadata)


@pytest.fixture(scope="session")
def found(run):
    return collect(run.path)


@pytest.fixture(scope="session")
def page(found, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(found), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def browser():
    if find_chromium() is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        chromium(folder) as started,
    ):
        yield started


@pytest.fixture(scope="session")
def opened(browser, page):
    tab = browser.page()
    tab.size(1200, 900)
    tab.scheme("light")
    tab.open(page)
    tab.wait("!!globalThis.report")
    tab.still()
    return tab
