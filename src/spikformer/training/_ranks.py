"""What processes that train together must know before Lightning lets them talk."""

import os
from collections.abc import Callable
from pathlib import Path

from spikformer.errors import ConfigError

FOLDER_VARIABLE = "SPIKFORMER_RUN"
RANK_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
"""SLURM's comes last: processes that are started inside an interactive job all inherit its 0."""


def is_first() -> bool:
    """Whether this process is alone, or the first: the one that writes files."""
    return next((int(os.environ[v]) for v in RANK_VARIABLES if os.environ.get(v)), 0) == 0


def agreed_folder(choose: Callable[[], Path]) -> Path:
    """A folder that every process comes to: the first chooses, those that it starts are told.

    Raises:
        ConfigError: when a launcher started them all at once, and nobody could tell.
    """
    if FOLDER_VARIABLE in os.environ and not is_first():
        return Path(os.environ[FOLDER_VARIABLE])
    # torchrun sets RANK; Lightning, which starts processes too, does not.
    # SLURM's batch step is one process, however many tasks it may start.
    launchers = {"RANK": "WORLD_SIZE", "SLURM_PROCID": "SLURM_NTASKS"}
    if any(int(os.environ.get(n) or 1) > 1 for r, n in launchers.items() if os.environ.get(r)):
        raise ConfigError("several processes cannot agree on a folder by themselves: give --run")
    folder = choose()
    os.environ[FOLDER_VARIABLE] = str(folder)
    return folder
