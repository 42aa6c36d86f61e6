import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent


def build(folder, **environment):
    """The wheel that a machine with this environment makes."""
    words = sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)
    subprocess.run(words, check=True, capture_output=True, env=os.environ | environment)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_wheel_alone_runs_the_demos_training(tmp_path):
    def run(*words):
        return subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, text=True)

    wheel = build(tmp_path)
    run(sys.executable, "-m", "venv", "fresh")
    fresh = tmp_path / "fresh" / "bin"
    run(str(fresh / "pip"), "install", "-q", "-c", str(ROOT / "constraints.txt"), f"{wheel}[all]")
    command = str(fresh / "spikformer")
    if shutil.which("c++"):
        assert "-py3-none-any" not in wheel.name
        assert "portable" in run(command, "doctor").stdout
    run(command, "train", "digits", "--run", "run", "--trainer.epochs", "3")
    assert "digits test, 540 images" in run(command, "evaluate", "run", "--figure", "f.png").stdout
    assert (tmp_path / "f.png").stat().st_size > 10_000
    run(command, "report", "run")
    assert (tmp_path / "run" / "report.html").stat().st_size > 100_000


@pytest.mark.slow
def test_without_a_compiler_the_wheel_has_all_but_the_engines_library(tmp_path):
    (tmp_path / "with").mkdir()
    wheel = build(tmp_path, CXX="/bin/false")
    names = set(ZipFile(wheel).namelist())
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "spikformer/engine/_library.py" in names
    assert not [name for name in names if "libspikformer_engine" in name]
    if shutil.which("c++"):
        more = set(ZipFile(build(tmp_path / "with")).namelist()) - names
        assert [Path(name).stem for name in more] == ["libspikformer_engine"]
