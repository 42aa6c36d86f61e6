"""Importing a user's own file."""

import importlib.util
from pathlib import Path
from types import ModuleType

from spikformer.errors import ConfigError


def load_file(path: Path, kind: str) -> ModuleType:
    """The module in a Python file, run once and not kept under any name.

    Args:
        path: A `.py` file.
        kind: What the error calls it.

    Raises:
        ConfigError: when there is no such file, or running it fails.
    """
    if not path.is_file():
        raise ConfigError(f"{kind}: there is no file {str(path)!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{kind}: {path} failed with {type(error).__name__}: {error}") from error
    return module
