import os

import pytest

from spikformer.bench.processes import Failed, elsewhere, resident


def test_an_object_answers_from_its_own_process():
    with elsewhere(dict, {"a": 1}) as remote:
        assert remote.ask("get", "a") == 1
        remote.ask("update", {"b": 2})
        assert remote.ask("get", "b") == 2
    with elsewhere(os.getpid) as remote:
        assert remote.ask("__int__") != os.getpid()


def test_what_cannot_be_built_says_why_at_every_question():
    with elsewhere(int, "no number") as remote:
        for _ in range(2):
            with pytest.raises(Failed, match=r"^ValueError: invalid literal"):
                remote.ask("bit_length")


def test_an_error_does_not_end_it():
    with elsewhere(list, [1]) as remote:
        with pytest.raises(Failed, match="IndexError"):
            remote.ask("__getitem__", 5)
        assert remote.ask("__getitem__", 0) == 1


def test_a_process_that_dies_is_reported():
    with (
        elsewhere(os._exit, 3) as remote,
        pytest.raises(Failed, match="ended early: memory may have run out"),
    ):
        remote.ask("bit_length")


def test_memory_is_in_mib():
    assert 1 < resident("VmRSS") <= resident("VmHWM") < 1e5
