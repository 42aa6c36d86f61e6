"""The compiled kernels, through ctypes: one C structure an operation, and one call a run."""

import ctypes
import os
from ctypes import POINTER, c_char_p, c_double, c_float, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

from spikformer.errors import ConfigError, first_line, unknown_name

VERSION = 1
NAME = "libspikformer_engine"
ELSEWHERE = "SPIKFORMER_ENGINE"
"""Environment variable: another build of the library, one with sanitizers for instance."""


class CNeuron(ctypes.Structure):
    """`spk_neuron` of csrc/engine.h."""

    _fields_ = (
        ("charge", c_int32),
        ("soft_reset", c_int32),
        ("tau", c_float),
        ("rate", c_float),
        ("threshold", c_float),
        ("rest", c_float),
    )


class COperation(ctypes.Structure):
    """`spk_op` of csrc/engine.h."""

    _fields_ = (
        *((name, c_int32) for name in ("kind", "storage", "other_storage", "path", "arithmetic")),
        ("tile", c_int32),
        *((name, c_int64) for name in ("images", "steps_in", "steps", "height", "width")),
        *((name, c_int64) for name in ("channels", "out_channels", "kernel", "events_per_step")),
        ("block", c_int64),
        ("safe_events", c_int64),
        ("heads", c_int64),
        ("pool", c_int64),
        ("scale", c_float),
        ("keys_first", c_int32),
        ("neuron", CNeuron),
        *((name, c_void_p) for name in ("input", "other", "output", "steps_output", "weights")),
        *((name, c_void_p) for name in ("scales", "bias", "potential", "events", "starts")),
        ("dense", c_void_p),
        ("scratch", c_void_p),
        ("scratch_bytes", c_int64),
    )


def missing() -> str | None:
    """Why the engine cannot run here; None if it can."""
    try:
        library()
    except ConfigError as error:
        return str(error)
    return None


@cache
def library() -> Any:
    """The shared library.

    Raises:
        ConfigError: when it was not built, or is of another version.
    """
    path = _path()
    try:
        found = ctypes.CDLL(str(path))
    except OSError as error:
        raise ConfigError(f"the engine's library cannot be loaded: {first_line(error)}") from error
    found.spk_op_bytes.restype = c_int64
    found.spk_instruction_sets.restype = c_char_p
    found.spk_pool_new.restype = c_void_p
    found.spk_pool_new.argtypes = (c_int32,)
    found.spk_pool_free.argtypes = (c_void_p,)
    found.spk_run.argtypes = (
        POINTER(COperation),
        c_int64,
        c_char_p,
        c_void_p,
        POINTER(c_double),
    )
    if (found.spk_version(), found.spk_op_bytes()) != (VERSION, ctypes.sizeof(COperation)):
        raise ConfigError(f"{path} is of another version: install spikformer anew")
    return found


def instruction_sets() -> tuple[str, ...]:
    """Those that run on this processor, best first."""
    return tuple(library().spk_instruction_sets().decode().split())


def check_instruction_set(name: str | None) -> str:
    """The named instruction set, or the best one.

    Raises:
        ConfigError: when it is unknown, or does not run here.
    """
    known = instruction_sets()
    if name is None:
        return known[0]
    if name not in known:
        raise unknown_name("instruction set of this processor", name, known)
    return name


def processors() -> int:
    """How many this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1


def _path() -> Path:
    if elsewhere := os.environ.get(ELSEWHERE):
        return Path(elsewhere)
    # Beside this file, wherever that is: a wheel and an editable install both put it there.
    for path in sorted(Path(__file__).parent.glob(f"{NAME}.*")):
        return path
    # A wheel that was made without a compiler may lie in pip's cache.
    raise ConfigError(
        "the engine was not built: install a C++17 compiler, then spikformer anew, with "
        "pip install --force-reinstall --no-deps --no-cache-dir"
    )
