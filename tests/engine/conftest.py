"""What the engine's tests share: a reason to skip them, and this processor's instruction sets."""

import pytest

from spikformer.engine import instruction_sets, missing

SETS = () if missing() else instruction_sets()


@pytest.fixture(scope="session")
def built():
    """Skips where there is no engine."""
    if (why := missing()) is not None:
        pytest.skip(why)


@pytest.fixture(scope="session", params=SETS)
def instruction_set(request):
    """Each that runs here, in turn."""
    return request.param
