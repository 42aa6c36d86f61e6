"""What every test starts from: its own seeds, and memory in which nothing unwritten looks right."""

import os
from collections.abc import Iterator
from pathlib import Path

# The key of this cache ignores decompositions: a stale entry would test yesterday's kernels.
os.environ.setdefault("TORCHINDUCTOR_AUTOGRAD_CACHE", "0")

import pytest
import torch
from hypothesis import settings

# Networks here are small: threads would wait for each other longer than they compute.
torch.set_num_threads(1)
settings.register_profile("suite", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--data", default="", help="where real data sets lie; empty skips their tests")


@pytest.fixture
def data_root(request: pytest.FixtureRequest) -> Path:
    """The folder of real data sets."""
    if not (root := request.config.getoption("--data")):
        pytest.skip("needs real data: pass --data=PATH")
    return Path(root)


@pytest.fixture(autouse=True)
def _a_known_start() -> Iterator[None]:
    # Deterministic mode fills memory that nobody wrote with NaN.
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)
