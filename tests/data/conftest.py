import functools
from pathlib import Path

import pytest

from spikformer.data import load_data


@pytest.fixture(scope="session")
def cifar(request):
    """The official data sets by name and number of validation images, each read once."""
    if not (root := request.config.getoption("--data")):
        pytest.skip("needs real data: pass --data=PATH")

    @functools.cache
    def read(name, validation=None):
        return load_data(name, Path(root), validation=validation)

    return read
