"""What a result was made with."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import spikformer
from spikformer.errors import ConfigError

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "torchvision", "timm", "lightning", "numpy", "safetensors", "triton")


def versions() -> dict[str, str]:
    """Versions of Python, of this library and of what it stands on; "" for what is missing."""
    found = {"python": platform.python_version(), "spikformer": spikformer.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found


def git_commit() -> str:
    """The commit that this library runs from, "-dirty" behind it when its files differ from it.

    "" when it was installed from a package.
    """
    package = Path(__file__).parents[1]

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=package, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def hardware() -> str:
    """The processor, and every GPU that PyTorch sees."""
    import torch

    threads = torch.get_num_threads()
    parts = [f"{processor()}, {threads} thread{'s' if threads > 1 else ''}"]
    parts += [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return "; ".join(parts)


def find_device(name: str) -> "torch.device":
    """A device that tensors can be put on.

    Raises:
        ConfigError: when there is no such device here.
    """
    import torch

    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        here += ["mps"] if torch.backends.mps.is_available() else []
        raise ConfigError(
            f"device {name!r} does not exist here; there is {', '.join(here)}"
        ) from error


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
