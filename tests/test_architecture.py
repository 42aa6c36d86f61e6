"""Facts about the source as a whole: what loads, what is public, what is short."""

import ast
import importlib
import io
import subprocess
import sys
import tokenize
from importlib.util import find_spec
from pathlib import Path

import pytest

import spikformer

SOURCE = Path(spikformer.__file__).parent
FILES = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))
HEAVY = ("torch", "timm", "torchvision", "lightning", "matplotlib", "tensorboard", "numpy")
MOST_LINES = 300
LONGER = {
    "models/spikformer.py": "the network in some 230 lines, then a table of eleven variants",
}
"""Files that may be longer, and why."""


def loaded_by(code):
    """Which heavy packages a fresh interpreter has loaded after `code`."""
    report = f"import sys; {code}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import spikformer; dir(spikformer); spikformer.__version__") == []


def test_public_names_load_what_they_need():
    assert "torch" in loaded_by("import spikformer; spikformer.Spikformer")


def test_help_loads_nothing_heavy():
    if find_spec("spikformer.cli") is None:
        pytest.skip("there is no command line yet")
    run = (
        "from spikformer.cli import main\n"
        "sys.argv = ['spikformer', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code\n"
    )
    assert loaded_by(f"exec({run!r})") == []


def test_public_names_are_sorted_and_importable():
    assert sorted(spikformer.__all__) == spikformer.__all__ == dir(spikformer)
    for name in spikformer.__all__:
        assert getattr(spikformer, name) is not None


@pytest.mark.parametrize("module", ["kernels", "nn", "models"])
def test_names_of_the_layers_are_sorted_and_importable(module):
    layer = importlib.import_module(f"spikformer.{module}")
    # Constants, classes, functions: as the linter sorts them.
    order = sorted(layer.__all__, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    assert layer.__all__ == order
    assert all(hasattr(layer, name) for name in layer.__all__)


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'spikformer' has no attribute 'wings'"):
        _ = spikformer.wings


@pytest.mark.parametrize("file", FILES)
def test_files_read_in_one_sitting(file):
    lines = (SOURCE / file).read_text().count("\n")
    if file in LONGER:
        assert lines > MOST_LINES, f"{file} is short now: take it off the list"
    else:
        assert lines <= MOST_LINES


def lines_of_code(text):
    """Lines that hold code: no blank lines, comments or docstrings."""
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    strings = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    code = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in silent | {tokenize.ENDMARKER}
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(code - strings)


def test_lines_of_code_are_counted_right():
    text = '"""Two\nlines."""\n\nimport os  # why\n\n# a comment\nx = """a\nb"""\n'
    assert lines_of_code(text) == 3


def test_the_model_and_its_parts_read_in_under_700_lines():
    network, _, variants = (SOURCE / "models/spikformer.py").read_text().partition("\ndef _cfg(")
    assert variants
    parts = [path.read_text() for path in sorted((SOURCE / "nn").glob("*.py"))]
    assert sum(map(lines_of_code, [network, *parts])) < 700
