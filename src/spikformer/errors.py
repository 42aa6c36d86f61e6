"""The errors this library raises on purpose.

SpikformerError
├── ConfigError      a value that breaks a rule, or a name nobody knows   (also a ValueError)
├── WeightsError     a checkpoint that does not fit, or is not trusted    (also a ValueError)
├── DataError        a file or a data set that is missing or damaged     (also an OSError)
└── NotFiniteError   training whose loss became infinite or no number

The command line prints any of them as one sentence and exits with 2; everything else is a bug.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class SpikformerError(Exception):
    """The root of the tree."""


class ConfigError(SpikformerError, ValueError):
    """An argument breaks a rule, or names something unknown."""


class WeightsError(SpikformerError, ValueError):
    """A checkpoint does not fit the model, or holds what must not be loaded."""


class DataError(SpikformerError, OSError):
    """A file or a data set is missing or damaged."""


class NotFiniteError(SpikformerError):
    """The loss became infinite or no number."""


def first_line(error: BaseException) -> str:
    """What an exception of someone else's says, for a sentence: its class and first line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ": ".join([type(error).__name__, *lines[:1]])


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for a name that is not in `known`, with the nearest ones that are."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return ConfigError(f"unknown {kind} {name!r}; {hint}")
