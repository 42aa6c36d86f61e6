"""State dicts of the authors' files, key by key, to ours and back.

ZK-Zhou/spikformer at 6212689 keeps three layouts of one network; its first release (09168c3)
another. Ours joins Q, K and V into one layer and keeps every map as a 1 x 1 convolution. Dead
entries exist in the authors' files though no forward pass reads them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spikformer.errors import WeightsError, unknown_name

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """How one of the authors' files names and shapes what is ours.

    Args:
        name: What `save_weights(layout=...)` calls it.
        source: The authors' file, and the commit where it is not the last.
        kind: What maps inside the blocks are called, `linear` or `conv`.
        attention_dims: Dimensions of the weights of Q, K, V and the projection.
        mlp_dims: Dimensions of the MLP's weights.
        qkv_bias: Whether Q, K and V have biases.
        first_stem: Whether stem stages are `block1_conv`, not `proj_conv`.
        dead_position: Whether there is a position embedding that nothing reads.
        dead_norm: Whether there is a final norm that nothing runs.
        scale: What its attention is scaled by.
        pools: Which stages of its stem pool.
    """

    name: str
    source: str
    kind: str
    attention_dims: int
    mlp_dims: int
    qkv_bias: bool = False
    first_stem: bool = False
    dead_position: bool = False
    dead_norm: bool = False
    scale: float = 0.125
    pools: tuple[bool, ...] = (True, True, True, True)

    def fixed(self) -> dict[str, object]:
        """Arguments of `Spikformer` that the authors' file leaves no choice of."""
        return {
            "pools": self.pools,
            "scale": self.scale,
            "learnable_scale": False,
            "qk_pool": None,
            "neuron": "lif",
            "attention": "ssa",
        }


PATCH4 = (False, False, True, True)
LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("cifar10", "cifar10/model.py", "linear", 2, 2, qkv_bias=True, pools=PATCH4),
        Layout("imagenet", "imagenet/model.py", "conv", 3, 4),
        Layout(
            "cifar10dvs",
            "cifar10dvs/model.py",
            "conv",
            3,
            3,
            dead_position=True,
            dead_norm=True,
            scale=0.25,
        ),
        Layout("cifar10_first", "model.py at 09168c3", "conv", 3, 4, first_stem=True, pools=PATCH4),
    )
}
NATIVE = "native"
QKV_WEIGHT = ".attention.qkv.conv.weight"
QKV_BIAS = ".attention.qkv.conv.bias"


@dataclass(frozen=True)
class Entry:
    """One of our entries and the entries of theirs it is made of, in order."""

    native: str
    foreign: tuple[str, ...]
    dims: int


def find_layout(name: str) -> Layout:
    """A layout by name.

    Raises:
        ConfigError: for an unknown one.
    """
    if name not in LAYOUTS:
        raise unknown_name("layout", name, [NATIVE, *LAYOUTS])
    return LAYOUTS[name]


def detect(state: State) -> str:
    """The name of the layout that a state dict is in.

    Raises:
        WeightsError: when it is none of them.
    """
    if any(key.startswith("stem.stages.") for key in state):
        return NATIVE
    if "patch_embed.block1_conv.weight" in state:
        return "cifar10_first"
    if "block.0.attn.q_linear.weight" in state:
        return "cifar10"
    fc1 = state.get("block.0.mlp.fc1_conv.weight")
    if fc1 is not None and "patch_embed.proj_conv.weight" in state:
        return "imagenet" if fc1.dim() == 4 else "cifar10dvs"
    some = ", ".join(sorted(state)[:3]) or "nothing"
    raise WeightsError(f"not the weights of a Spikformer in any known layout; it holds {some}, ...")


def to_native(
    state: State, layout: Layout, like: State
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Ours from theirs.

    Args:
        like: A state dict of the model that is to take it.

    Returns:
        Our state dict; the keys of ours that theirs does not have: biases, set to 0; and those of
        theirs that are dead.

    Raises:
        WeightsError: for keys that are missing or unexpected, or shapes that do not fit.
    """
    dead = _dead_entries(layout, like)
    native, missing, used = {}, [], set(dead)
    for entry in _entries(layout, like):
        used.update(entry.foreign)
        absent = [key for key in entry.foreign if key not in state]
        missing += absent
        if not absent:
            parts = [state[key] for key in entry.foreign]
            native[entry.native] = _joined(parts, entry, like[entry.native])
    zeroed, homeless = _unmapped(layout, like)
    native.update({key: torch.zeros_like(like[key]) for key in zeroed})
    complain("missing", [*missing, *homeless])
    complain("unexpected", [key for key in state if key not in used])
    return native, zeroed, [key for key in state if key in dead]


def from_native(state: State, layout: Layout) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Theirs from ours, complete, so that their strict loading takes it.

    Returns:
        Their state dict; those of its keys that ours does not have: biases, set to 0; and those
        that are dead, as their constructor leaves them.

    Raises:
        WeightsError: when our model holds what their file has no place for.
    """
    unused, homeless = _unmapped(layout, state)
    homeless += [key for key in unused if state[key].any()]
    complain(f"without a place in layout {layout.name!r}", homeless)
    theirs, biases = {}, {}
    for entry in _entries(layout, state):
        theirs.update(zip(entry.foreign, _split(state[entry.native], entry), strict=True))
        bias = entry.native.replace(".weight", ".bias")
        if layout.qkv_bias and entry.native.endswith(QKV_WEIGHT) and bias not in state:
            for key in entry.foreign:
                rows = theirs[key].shape[0]
                biases[key.replace(".weight", ".bias")] = theirs[key].new_zeros(rows)
    dead = _dead_entries(layout, state)
    return theirs | biases | dead, sorted(biases), list(dead)


def _dead_entries(layout: Layout, native: State) -> dict[str, Tensor]:
    """What their file keeps and never reads, as its constructor leaves it."""
    weight = native["position.conv.weight"]
    width = weight.shape[0]
    norms = [f"block.{block}.norm{k}" for block in _blocks(native) for k in (1, 2)]
    if layout.dead_norm:
        norms.append("norm")
    dead = {}
    for norm in norms:
        dead[f"{norm}.weight"] = weight.new_ones(width)
        dead[f"{norm}.bias"] = weight.new_zeros(width)
    if layout.dead_position:  # 64 patches: their file knows 128 x 128 pixels alone
        dead["pos_embed"] = weight.new_zeros(1, 64, width)
    return dead


def _entries(layout: Layout, native: State) -> Iterator[Entry]:
    modules = dict(_modules(layout, native))
    for key in native:
        module, _, leaf = key.rpartition(".")
        if module in modules and (layout.qkv_bias or not key.endswith(QKV_BIAS)):
            foreign, dims = modules[module]
            yield Entry(key, tuple(f"{name}.{leaf}" for name in foreign), dims)


def _unmapped(layout: Layout, native: State) -> tuple[list[str], list[str]]:
    """Our entries that theirs has no place for: biases that may be 0, and all others."""
    mapped = {entry.native for entry in _entries(layout, native)}
    rest = [key for key in native if key not in mapped]
    biases = [key for key in rest if key.endswith(QKV_BIAS)]
    return biases, [key for key in rest if key not in biases]


def _modules(layout: Layout, native: State) -> Iterator[tuple[str, tuple[tuple[str, ...], int]]]:
    """(our module, (theirs that it is made of, dimensions of a weight))."""
    for stage in sorted({key.split(".")[2] for key in native if key.startswith("stem.stages.")}):
        conv, norm = _stage_names(layout, int(stage))
        yield f"stem.stages.{stage}.conv", ((f"patch_embed.{conv}",), 4)
        yield f"stem.stages.{stage}.norm", ((f"patch_embed.{norm}",), 1)
    yield "position.conv", (("patch_embed.rpe_conv",), 4)
    yield "position.norm", (("patch_embed.rpe_bn",), 1)
    for block in _blocks(native):
        ours, theirs = f"blocks.{block}", f"block.{block}"
        for part, names, dims in (
            ("attention.qkv", ("attn.q", "attn.k", "attn.v"), layout.attention_dims),
            ("attention.proj", ("attn.proj",), layout.attention_dims),
            ("mlp.fc1", ("mlp.fc1",), layout.mlp_dims),
            ("mlp.fc2", ("mlp.fc2",), layout.mlp_dims),
        ):
            maps = tuple(f"{theirs}.{name}_{layout.kind}" for name in names)
            yield f"{ours}.{part}.conv", (maps, dims)
            yield f"{ours}.{part}.norm", (tuple(f"{theirs}.{name}_bn" for name in names), 1)
    yield "head", (("head",), 2)


def _stage_names(layout: Layout, stage: int) -> tuple[str, str]:
    if layout.first_stem:
        return f"block{stage + 1}_conv", f"block{stage + 1}_bn"
    number = stage or ""
    return f"proj_conv{number}", f"proj_bn{number}"


def _blocks(native: State) -> list[str]:
    return sorted({key.split(".")[1] for key in native if key.startswith("blocks.")}, key=int)


def _joined(parts: list[Tensor], entry: Entry, wanted: Tensor) -> Tensor:
    shape = (wanted.shape[0] // len(parts), *wanted.shape[1:]) if wanted.dim() else ()
    for key, part in zip(entry.foreign, parts, strict=True):
        expected = _foreign_shape(shape, entry.dims)
        if tuple(part.shape) != expected:
            raise WeightsError(f"{key} must have shape {[*expected]}, got {[*part.shape]}")
    return torch.cat([part.reshape(shape) for part in parts]) if shape else parts[0]


def _split(tensor: Tensor, entry: Entry) -> Iterable[Tensor]:
    if tensor.dim() == 0:
        return [tensor.clone() for _ in entry.foreign]
    return [
        part.reshape(_foreign_shape(tuple(part.shape), entry.dims)).contiguous()
        for part in tensor.chunk(len(entry.foreign))
    ]


def _foreign_shape(shape: tuple[int, ...], dims: int) -> tuple[int, ...]:
    return shape if len(shape) < 2 else shape[:dims] + (1,) * (dims - len(shape))


def complain(problem: str, keys: list[str]) -> None:
    """Raise a WeightsError that names the first of `keys`; nothing when there are none."""
    if keys:
        shown = ", ".join(sorted(keys)[:5]) + (", ..." if len(keys) > 5 else "")
        raise WeightsError(f"{len(keys)} entries are {problem}: {shown}")
