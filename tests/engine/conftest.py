"""The engine's tests: on every instruction set of this processor, and skipped where it was not built."""

import pytest

from spikformer.engine import instruction_sets, missing

SETS = () if missing() else instruction_sets()


@pytest.fixture(scope="session", autouse=True)
def _built():
    if (why := missing()) is not None:
        pytest.skip(why)


@pytest.fixture(scope="session", params=SETS)
def instruction_set(request):
    """Each that runs here, in turn."""
    return request.param
