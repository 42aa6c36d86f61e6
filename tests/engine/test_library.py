"""The compiled library: found, checked, or a sentence that says why not. Imports no torch."""

import pytest

from spikformer.engine import _library
from spikformer.errors import ConfigError


@pytest.fixture(autouse=True)
def _not_remembered(monkeypatch):
    monkeypatch.setattr(_library, "library", _library.library.__wrapped__)


@pytest.fixture
def built():
    if reason := _library.missing():
        pytest.skip(reason)


def test_portable_kernels_run_everywhere_and_come_last(built):
    assert _library.instruction_sets()[-1] == "portable"
    assert _library.check_instruction_set(None) == _library.instruction_sets()[0]
    with pytest.raises(ConfigError, match="did you mean portable"):
        _library.check_instruction_set("portabel")


def test_without_the_library_the_reason_says_what_to_install(monkeypatch):
    monkeypatch.delenv(_library.ELSEWHERE, raising=False)
    monkeypatch.setattr(_library, "NAME", "nothing")
    reason = _library.missing()
    assert reason is not None
    assert reason.startswith("the engine was not built: install a C++17 compiler")
    with pytest.raises(ConfigError, match="was not built"):
        _library.instruction_sets()


def test_what_is_no_library_is_named(monkeypatch, tmp_path):
    file = tmp_path / "engine.so"
    monkeypatch.setenv(_library.ELSEWHERE, str(file))
    assert f"cannot be loaded: OSError: {file}: cannot open" in (_library.missing() or "")
    file.write_bytes(b"no library")
    assert f"cannot be loaded: OSError: {file}: " in (_library.missing() or "")


@pytest.mark.parametrize("name", ["VERSION", "COperation"])
def test_a_library_of_other_sources_is_refused(built, monkeypatch, name):
    monkeypatch.setattr(_library, name, {"VERSION": 0, "COperation": _library.CNeuron}[name])
    with pytest.raises(ConfigError, match="is of another version: install spikformer anew"):
        _library.library()
