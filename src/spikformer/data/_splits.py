"""Which samples are trained on, chosen on and tested on; and how to prove it later."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from spikformer.errors import ConfigError

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


def fingerprint(parts: Mapping[str, Indices]) -> str:
    """SHA-256 over the names and sorted indices of the parts of a split."""
    digest = hashlib.sha256()
    for name, indices in sorted(parts.items()):
        digest.update(name.encode())
        digest.update(np.sort(indices).astype("<i8").tobytes())
    return digest.hexdigest()
