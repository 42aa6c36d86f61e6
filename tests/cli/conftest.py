"""A run that takes seconds, shared by all tests that only read it."""

import pytest

from spikformer.cli import main

QUICK = ["--trainer.epochs", "1", "--data.batch-size", "256"]


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert main(["train", "digits", "--run", str(folder), *QUICK]) == 0
    return folder
