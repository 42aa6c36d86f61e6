"""Engines as files: safetensors with the plan in its metadata. No pickle, and no torch to read it."""

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spikformer._files import must_exist, replacing
from spikformer.errors import WeightsError, first_line
from spikformer.export.plan import Plan

if TYPE_CHECKING:
    from spikformer.engine._engine import Engine

KEY, VERSION = "spikformer_engine", 1
TEXTS = ("plan", "facts")
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, OSError, RecursionError)
"""What safetensors and JSON raise besides their own errors, of types that NumPy lacks for instance."""


def save(engine: "Engine", path: str | os.PathLike[str]) -> None:
    from safetensors.numpy import save_file

    plan = engine.plan.to_json()
    facts = json.dumps(engine.facts)
    about = {"version": VERSION, "plan": plan, "facts": facts}
    about["digest"] = digest(plan + facts, engine.arrays)
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

    plan, arrays, facts = read(Path(path))
    return Engine(plan, arrays, threads=threads, instruction_set=instruction_set, facts=facts)


def read(path: Path) -> tuple[Plan, dict[str, np.ndarray], dict[str, Any]]:
    """Plan, weights and facts of an engine's file, checked against their digest."""
    from safetensors import SafetensorError, safe_open

    must_exist(path)
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {}).get(KEY, "null"))
            texts = [about.get(each) for each in TEXTS] if isinstance(about, dict) else [None]
            told = all(isinstance(text, str) for text in texts)
            names = file.keys() if told else ()
            arrays = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, *UNREADABLE) as error:
        raise WeightsError(f"{path} is no engine: {first_line(error)}") from error
    if not told:
        raise WeightsError(f"{path} is no engine: compile one with spikformer.engine.compile")
    if about.get("version") != VERSION:
        raise WeightsError(
            f"{path} is an engine of version {about.get('version')}, and this is {VERSION}"
        )
    if about.get("digest") != digest(about["plan"] + about["facts"], arrays):
        raise WeightsError(f"{path} is damaged: its digest is not what it was written with")
    return Plan.from_json(about["plan"]), arrays, _facts(path, about["facts"])


def _facts(path: Path, text: str) -> dict[str, Any]:
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is no engine: {first_line(error)}") from error
    if not isinstance(facts, dict):
        raise WeightsError(f"{path} is no engine: its facts have no names")
    return facts


def is_engine(path: Path) -> bool:
    """Whether a file says that it is an engine."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return KEY in (file.metadata() or {})
    except (SafetensorError, *UNREADABLE):
        return False


def digest(text: str, arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of a text and arrays with their names, hexadecimal."""
    sha = hashlib.sha256(text.encode(errors="surrogatepass"))
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        sha.update(f"{name} {array.dtype} {array.shape}".encode())
        sha.update(array.data)
    return sha.hexdigest()
