import pickle

import pytest

from spikformer.errors import ConfigError
from spikformer.nn import ATTENTIONS, IF, LIF, NEURONS, resolve

MY_NEURON = """
from spikformer.nn import LIF

class MyLIF(LIF):
    pass
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my_neurons.py"
    path.write_text(MY_NEURON)
    return path


def test_a_name_is_looked_up():
    assert resolve("neuron", "if", NEURONS) is IF
    assert resolve("attention", "ssa", ATTENTIONS) is ATTENTIONS["ssa"]


def test_a_class_or_a_function_is_taken_as_it_is():
    def build(*, threshold):
        return LIF(tau=3.0, threshold=threshold)

    assert resolve("neuron", IF, NEURONS) is IF
    assert resolve("neuron", build, NEURONS) is build


def test_a_class_comes_from_a_file(file):
    found = resolve("neuron", f"{file}:MyLIF", NEURONS)
    assert issubclass(found, LIF)
    assert found.__name__ == "MyLIF"


def test_a_file_is_looked_for_where_the_command_runs(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    assert resolve("neuron", "my_neurons.py:MyLIF", NEURONS).__name__ == "MyLIF"


def test_a_class_comes_from_a_module():
    assert resolve("neuron", "spikformer.nn:IF", NEURONS) is IF


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("liff", r"unknown neuron 'liff'; did you mean lif or plif or if\?"),
        ("izhikevich", "unknown neuron 'izhikevich'; known: if, lif, plif"),
        ("nowhere.py:MyLIF", "neuron: there is no file 'nowhere.py'"),
        ("no_such_module:MyLIF", "neuron: cannot import 'no_such_module'"),
        ("spikformer.nn:LIFF", "neuron 'spikformer.nn:LIFF': spikformer.nn defines no 'LIFF'"),
    ],
)
def test_what_is_not_there_is_named(spec, message):
    with pytest.raises(ConfigError, match=message):
        resolve("neuron", spec, NEURONS)


def test_a_class_that_a_file_lacks_is_named(file):
    with pytest.raises(ConfigError, match="defines no 'YourLIF'"):
        resolve("neuron", f"{file}:YourLIF", NEURONS)


def test_a_users_file_may_hold_dataclasses_and_its_classes_can_be_copied(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from spikformer.nn import LIF\n"
        "@dataclass\nclass Options:\n    tau: float = 3.0\n"
        "class Slow(LIF):\n"
        "    def __init__(self, threshold=1.0):\n"
        "        super().__init__(tau=Options().tau, threshold=threshold)\n"
    )
    slow = resolve("neuron", f"{path}:Slow", NEURONS)(threshold=0.5)
    assert pickle.loads(pickle.dumps(slow)).tau == 3.0
