"""Importing a user's own file."""

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from spikformer.errors import ConfigError, first_line


def load_file(path: Path, kind: str) -> ModuleType:
    """The module in a Python file, run anew, kept under a name that its path makes unique.

    Args:
        path: A `.py` file.
        kind: What the error calls it.

    Raises:
        ConfigError: when there is no such file, or running it fails.
    """
    if not path.is_file():
        raise ConfigError(f"{kind}: there is no file {str(path)!r}")
    name = f"{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(f"{kind}: {path} failed with {first_line(error)}") from error
    return module
