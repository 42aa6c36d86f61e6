"""Engines as files: safetensors with the plan in its metadata. No pickle, and no torch to read it."""

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spikformer._files import must_exist, replacing
from spikformer.errors import WeightsError, first_line
from spikformer.export.plan import Plan

if TYPE_CHECKING:
    from spikformer.engine._engine import Engine

KEY, VERSION = "spikformer_engine", 1


def save(engine: "Engine", path: str | os.PathLike[str]) -> None:
    from safetensors.numpy import save_file

    plan = engine.plan.to_json()
    about = {"version": VERSION, "plan": plan, "digest": _digest(plan, engine.arrays)}
    with replacing(path) as partial:
        save_file(engine.arrays, partial, metadata={KEY: json.dumps(about)})


def load(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    instruction_set: str | None = None,
) -> "Engine":
    """An engine from its file, for this processor. Imports no torch.

    Args:
        threads: None takes the processors that this process may use.
        instruction_set: None takes the best; see `instruction_sets()`.

    Raises:
        WeightsError: when it is no engine, or damaged.
        DataError: when there is no such file.
        ConfigError: when the kernels were not built, or an argument is unknown.
    """
    from spikformer.engine._engine import Engine

    plan, arrays = read(Path(path))
    return Engine(plan, arrays, threads=threads, instruction_set=instruction_set)


def read(path: Path) -> tuple[Plan, dict[str, np.ndarray]]:
    """Plan and weights of an engine's file, checked against their digest."""
    from safetensors import SafetensorError, safe_open

    must_exist(path)
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {}).get(KEY, "null"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 no mapping
    except (SafetensorError, ValueError, TypeError, OSError, RecursionError) as error:
        raise WeightsError(f"{path} is no engine: {first_line(error)}") from error
    if not isinstance(about, dict) or not isinstance(about.get("plan"), str):
        raise WeightsError(f"{path} is no engine: compile one with spikformer.engine.compile")
    if about.get("version") != VERSION:
        raise WeightsError(
            f"{path} is an engine of version {about.get('version')}, and this is {VERSION}"
        )
    if about.get("digest") != _digest(about["plan"], arrays):
        raise WeightsError(f"{path} is damaged: its digest is not what it was written with")
    return Plan.from_json(about["plan"]), arrays


def is_engine(path: Path) -> bool:
    """Whether a file says that it is an engine."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def _digest(plan: str, arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(plan.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()
