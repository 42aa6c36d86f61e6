"""Which samples are trained on, chosen on and tested on; and how to prove it later."""

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from spikformer.errors import ConfigError, DataError

Indices = NDArray[np.int64]


def stratified(labels: NDArray[np.integer], sizes: Sequence[int], seed: int) -> list[Indices]:
    """Disjoint parts of the given sizes, each with every class in its share, as far as whole
    samples allow. What is left over is the last part.

    Args:
        labels: [n].
        sizes: Of all parts but the last, in samples.
        seed: The same seed gives the same parts on every machine.

    Raises:
        ConfigError: when the parts are larger than the whole.
    """
    if sum(sizes) > len(labels):
        raise ConfigError(f"parts of {list(sizes)} samples need more than the {len(labels)} there")
    generator = np.random.Generator(np.random.PCG64(seed))
    # Every class is shuffled, then all are merged by relative rank: each prefix is stratified.
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        rank[members] = (np.arange(len(members)) + 0.5) / len(members)
    order = np.argsort(rank, kind="stable")
    return [np.sort(part) for part in np.split(order, np.cumsum(sizes))]


def front(labels: NDArray[np.integer], share: float) -> tuple[Indices, Indices]:
    """The first samples of every class, rounded up, and the others: no draw decides."""
    first = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        first[members[: math.ceil(len(members) * share)]] = True
    return np.flatnonzero(first), np.flatnonzero(~first)


def whole_groups(groups: Sequence[str], size: int, seed: int) -> tuple[Indices, Indices]:
    """About `size` samples, and the others, no group divided between them.

    Args:
        groups: What each sample was cut from.
        size: Groups are taken until there are as many samples.
        seed: The same seed takes the same groups on every machine.

    Raises:
        ConfigError: when nothing is left over.
    """
    names, members = np.unique(np.array(groups), return_inverse=True)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(names))
    reached = np.cumsum(np.bincount(members, minlength=len(names))[order])
    taken = order[: int(np.searchsorted(reached, size)) + 1] if size else order[:0]
    if len(taken) >= len(names):
        raise ConfigError(f"{size} of {len(groups)} samples, in whole recordings, leave none over")
    chosen = np.isin(members, taken)
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def check_disjoint(parts: Mapping[str, Sequence[str]]) -> None:
    """See that no source is in two parts.

    Args:
        parts: Name of each part, and the source of each of its samples: an image, a recording.

    Raises:
        DataError: naming one that is.
    """
    owner: dict[str, str] = {}
    for part, sources in parts.items():
        for source in set(sources):
            other = owner.setdefault(source, part)
            if other != part:
                raise DataError(f"{source} is in both {other} and {part}: the split leaks")


def fingerprint(parts: Mapping[str, Indices]) -> str:
    """SHA-256 over the names and sorted indices of the parts of a split."""
    digest = hashlib.sha256()
    for name, indices in sorted(parts.items()):
        digest.update(name.encode())
        digest.update(np.sort(indices).astype("<i8").tobytes())
    return digest.hexdigest()


def fingerprint_of_files(parts: Mapping[str, Sequence[str]]) -> str:
    """The same over what the samples are called, for data sets that are folders of files."""
    digest = hashlib.sha256()
    for name, samples in sorted(parts.items()):
        digest.update("\n".join([name, *sorted(samples), ""]).encode())
    return digest.hexdigest()
