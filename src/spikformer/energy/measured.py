"""Joules that the machine itself counts, where it lets them be read: never mixed with models."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

POWERCAP = Path("/sys/class/powercap")


@dataclass
class Measured:
    """What was spent while a block ran.

    Args:
        seconds: How long it took.
        joules: Counter to what it counted: `cpu package 0` (RAPL), `gpu 0` (NVML), of all that ran
            on the machine then.
        missing: Why there is none, or not all.
    """

    seconds: float = 0.0
    joules: dict[str, float] = field(default_factory=dict)
    missing: str | None = None


@contextmanager
def measured() -> Iterator[Measured]:
    """Read the machine's counters before and after the block."""
    found = Measured()
    packages = _packages(found)
    before = {name: _microjoules(path) for name, path in packages.items()}
    gpus = _millijoules(found)
    begun = time.perf_counter()
    yield found
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    found.seconds = time.perf_counter() - begun
    for name, path in packages.items():
        spent = _microjoules(path) - before[name]
        if spent < 0:  # the counter began anew
            spent += int((path / "max_energy_range_uj").read_text())
        found.joules[name] = spent * 1e-6
    for name, millijoules in _millijoules(Measured()).items():
        found.joules[name] = (millijoules - gpus[name]) * 1e-3


def _packages(found: Measured) -> dict[str, Path]:
    """RAPL's counter of each processor."""
    packages = {}
    for path in sorted(POWERCAP.glob("intel-rapl:*")):
        if path.name.count(":") == 1:
            try:
                _microjoules(path)
            except OSError as error:
                found.missing = f"{path}/energy_uj cannot be read ({error.strerror})"
                continue
            packages[f"cpu {(path / 'name').read_text().strip().replace('-', ' ')}"] = path
    if not packages and found.missing is None:
        found.missing = f"there is no RAPL counter in {POWERCAP}"
    return packages


def _microjoules(path: Path) -> int:
    return int((path / "energy_uj").read_text())


def _millijoules(found: Measured) -> dict[str, int]:
    """NVML's counter of each GPU since the driver was loaded."""
    if not torch.cuda.is_available():
        return {}
    try:
        import pynvml  # pyright: ignore[reportMissingImports]

        pynvml.nvmlInit()
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        counts = [pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles]
    except Exception as error:  # NVML has an error for each reason, and may be missing
        found.missing = f"the GPU's counter cannot be read ({error})"
        return {}
    return {f"gpu {n}": count for n, count in enumerate(counts)}
