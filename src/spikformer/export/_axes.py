"""Which axis of a tensor is which, through all that only moves them about."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

Atom = tuple[str, int]
"""A name and a size. What splits C into 3 and the rest calls them C0 and C1."""


@dataclass(frozen=True)
class Axes:
    """For each dimension, the axes that are folded into it, outermost first; none where it is 1."""

    groups: tuple[tuple[Atom, ...], ...]

    @classmethod
    def of(cls, **sizes: int) -> "Axes":
        return cls(tuple(_group((name, size)) for name, size in sizes.items()))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(prod(size for _, size in group) for group in self.groups)

    def permuted(self, dims: Sequence[int]) -> "Axes":
        return Axes(tuple(self.groups[dim] for dim in dims))

    def moved(self, source: int, destination: int) -> "Axes":
        dims = list(range(len(self.groups)))
        dims.insert(destination % len(dims), dims.pop(source))
        return self.permuted(dims)

    def swapped(self, one: int, two: int) -> "Axes":
        dims = list(range(len(self.groups)))
        dims[one], dims[two] = dims[two], dims[one]
        return self.permuted(dims)

    def without(self, dim: int) -> "Axes":
        dim %= len(self.groups)
        return Axes(self.groups[:dim] + self.groups[dim + 1 :])

    def with_group(self, dim: int, *atoms: Atom) -> "Axes":
        """The same, with other axes in one dimension."""
        groups = list(self.groups)
        groups[dim] = tuple(atom for each in atoms for atom in _group(each))
        return replace(self, groups=tuple(groups))

    def reshaped(self, shape: Sequence[int]) -> "Axes | None":
        """The axes of a reshape; None where it cuts through one at a place that divides it not."""
        atoms = [atom for group in self.groups for atom in group]
        groups = []
        for wanted in shape:
            group: list[Atom] = []
            while wanted > 1:
                if not atoms:
                    return None
                name, size = atoms.pop(0)
                if wanted % size:  # the outer part of this axis; the inner one is for the next
                    if size % wanted:
                        return None
                    atoms.insert(0, (f"{name}1", size // wanted))
                    name, size = f"{name}0", wanted
                group.append((name, size))
                wanted //= size
            groups.append(tuple(group))
        return None if atoms else Axes(tuple(groups))


def _group(atom: Atom) -> tuple[Atom, ...]:
    return (atom,) if atom[1] > 1 else ()
