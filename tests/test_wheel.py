import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_wheel_alone_runs_the_demos_training(tmp_path):
    def run(*words):
        return subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, text=True)

    run(sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT))
    wheel = next(tmp_path.glob("*.whl"))
    run(sys.executable, "-m", "venv", "fresh")
    fresh = tmp_path / "fresh" / "bin"
    run(str(fresh / "pip"), "install", "-q", "-c", str(ROOT / "constraints.txt"), f"{wheel}[all]")
    command = str(fresh / "spikformer")
    run(command, "train", "digits", "--run", "run", "--trainer.epochs", "3")
    assert "digits test, 540 images" in run(command, "evaluate", "run", "--figure", "f.png").stdout
    assert (tmp_path / "f.png").stat().st_size > 10_000
    run(command, "report", "run")
    assert (tmp_path / "run" / "report.html").stat().st_size > 100_000
