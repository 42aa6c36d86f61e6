"""What `spikformer doctor` says of the engine, with and without its library."""

import pytest

from spikformer.cli import main
from spikformer.engine import _library


def test_the_doctor_names_the_library_its_instruction_sets_and_threads(capsys):
    if reason := _library.missing():
        pytest.skip(reason)
    lines = engine_lines(capsys)
    assert lines["library"] == str(_library._path())
    assert lines["instruction sets"].split(", ") == [*_library.instruction_sets()]
    assert int(lines["threads"]) >= 1


def test_the_doctor_says_that_the_engine_was_not_built_and_what_to_do(capsys, monkeypatch):
    monkeypatch.delenv(_library.ELSEWHERE, raising=False)
    monkeypatch.setattr(_library, "library", _library.library.__wrapped__)
    monkeypatch.setattr(_library, "NAME", "nothing")
    lines = engine_lines(capsys)
    assert lines.keys() == {"library"}
    assert lines["library"].startswith("none: the engine was not built: install a C++17 compiler")


def engine_lines(capsys):
    assert main(["doctor"]) == 0
    _, _, said = capsys.readouterr().out.partition("\nengine\n")
    section, _, _ = said.partition("\ndata\n")
    cells = (line.strip().split("  ", 1) for line in section.splitlines())
    return {name: said.strip() for name, said in cells}
