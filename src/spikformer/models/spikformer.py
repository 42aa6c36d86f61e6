r"""Spikformer: a spiking neural network meets the Transformer.

Zhou, Zhu, He, Wang, Yan, Tian, Yuan, ICLR 2023. One model for what the authors keep in three files
(`cifar10/model.py`, `imagenet/model.py`, `cifar10dvs/model.py` of ZK-Zhou/spikformer).
"""

import inspect
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from spikformer.errors import ConfigError
from spikformer.kernels import accumulator
from spikformer.nn import (
    ATTENTIONS,
    NEURONS,
    AttentionFactory,
    EncoderBlock,
    NeuronFactory,
    SpikingConv,
    SpikingPatchSplitting,
    frozen_statistics,
    resolve,
)

INITS = ("linear", "conv")


class Spikformer(nn.Module):
    r"""The whole network (Spikformer, eq. 4-9).

    $$X_0 = x + \mathrm{RPE}(x),\ x = \mathrm{SPS}(I) \qquad X_l = \mathrm{Block}_l(X_{l-1}) \qquad
    Y = \mathrm{Head}(\mathrm{GAP}(X_L))$$

    A static image [B, C, H, W] is seen `steps` times; frames [B, T, C, H, W] are seen one a step.
    Neurons start at rest in every call, and the model keeps no state between calls.

    Args:
        depth: Encoder blocks $L$.
        dim: Width $D$, a multiple of `heads` and of $2^{stages-1}$.
        heads: $h$.
        in_chans: Channels of the input.
        num_classes: $K$; 0 leaves the head out.
        steps: $T$ for static images. Frames bring their own.
        scale: $s$, the attention's.
        learnable_scale: Whether every block trains its own $s$, from `scale` on.
        pools: For each stage of the stem, whether a pool halves the image there.
        neuron: A name (`lif`, `if`, `plif`), `file.py:Class`, or what is called with `threshold=`.
        attention: A name (`ssa`, `vsa`, ...), `file.py:Class`, or an `AttentionFactory`.
        qkv_bias: Whether Q, K and V have a bias in front of their norm.
        qk_pool: Width in tokens of a max-pool over Q and K. None for none.
        mlp_ratio: Hidden width of the MLPs over `dim`.
        drop_path_rate: Of the last block; earlier ones rise to it linearly. The paper uses 0.
        init: `linear` draws the maps inside the blocks from a truncated normal of deviation 0.02,
            as the authors' CIFAR file does; `conv` leaves PyTorch's uniform, as the others do.

    Raises:
        ConfigError: when an argument breaks a rule above.
    """

    default_cfg: dict[str, Any]
    """Set by timm: input size, normalisation, names of the first and last layer."""

    def __init__(
        self,
        depth: int,
        dim: int,
        heads: int,
        *,
        in_chans: int = 3,
        num_classes: int = 1000,
        steps: int = 4,
        scale: float = 0.125,
        learnable_scale: bool = False,
        pools: Sequence[bool] = (True, True, True, True),
        neuron: str | NeuronFactory = "lif",
        attention: str | AttentionFactory = "ssa",
        qkv_bias: bool = False,
        qk_pool: int | None = None,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        init: str = "conv",
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name in ARGUMENTS}
        super().__init__()
        for name, value in (
            ("depth", depth),
            ("dim", dim),
            ("heads", heads),
            ("steps", steps),
            ("in_chans", in_chans),
        ):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if num_classes < 0:
            raise ConfigError(f"num_classes must be at least 0, got {num_classes}")
        if mlp_ratio <= 0:
            raise ConfigError(f"mlp_ratio must be positive, got {mlp_ratio}")
        if init not in INITS:
            raise ConfigError(f"init must be one of {', '.join(INITS)}, got {init!r}")
        self.arguments: dict[str, Any] = arguments | {"pools": tuple(map(bool, pools))}
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = self.embed_dim = dim
        self.in_chans = in_chans
        self.steps = steps
        self.grad_checkpointing = False

        build_neuron = resolve("neuron", neuron, NEURONS)
        build_attention = partial(
            resolve("attention", attention, ATTENTIONS),
            dim,
            heads,
            neuron=build_neuron,
            scale=scale,
            learnable_scale=learnable_scale,
            qkv_bias=qkv_bias,
            qk_pool=qk_pool,
        )
        self.stem = SpikingPatchSplitting(in_chans, dim, pools=pools, neuron=build_neuron)
        self.position = SpikingConv(dim, dim, 3, neuron=build_neuron)
        self.blocks = nn.ModuleList(
            EncoderBlock(
                build_attention(),
                dim,
                mlp_ratio=mlp_ratio,
                neuron=build_neuron,
                drop_path=drop_path_rate * (block / (depth - 1) if depth > 1 else 1),
            )
            for block in range(depth)
        )
        self.head = nn.Linear(dim, num_classes) if num_classes else nn.Identity()
        *early, reduction = self.stem.strides
        self.feature_info = [
            {"module": f"stem.pools.{stage}", "num_chs": self.stem.widths[stage], "reduction": r}
            for stage, r in enumerate(early)
        ] + [
            {"module": f"blocks.{block}", "num_chs": dim, "reduction": reduction}
            for block in range(depth)
        ]
        _initialise(self, init)

    def forward(self, images: Float[Tensor, "B *T C H W"]) -> Float[Tensor, "B K"]:
        return self.forward_head(self.forward_features(images))

    def forward_steps(self, images: Float[Tensor, "B *T C H W"]) -> Float[Tensor, "T B K"]:
        """Logits of each step; their mean over time is `forward`."""
        return self._classify(_mean(self.forward_features_steps(images), 2))

    def forward_features(self, images: Float[Tensor, "B *T C H W"]) -> Float[Tensor, "B N D"]:
        """Tokens, as the mean over time of their counts; in float32 for half types."""
        return _mean(self.forward_features_steps(images), 0)

    def forward_features_steps(
        self, images: Float[Tensor, "B *T C H W"]
    ) -> Float[Tensor, "T B N D"]:
        """Counts of spikes after the last block, at most 2 depth + 2 each."""
        counts = self._enter(self.stem(*self._steps_of(images)))
        for block in self.blocks:
            counts = self._run(block, counts)
        return counts.flatten(3).mT

    def forward_head(
        self, features: Float[Tensor, "B N D"], pre_logits: bool = False
    ) -> Float[Tensor, "B _"]:
        pooled = _mean(features, 1)
        return pooled if pre_logits else self._classify(pooled)

    def forward_intermediates(
        self,
        x: Float[Tensor, "B *T C H W"],
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Timm's access to what `feature_info` lists, each as its mean over time, [B, C, H, W].

        Returns:
            The intermediates; unless `intermediates_only`, after the final features.

        Raises:
            ConfigError: for another `output_fmt`, or with `norm`: there is no final norm.
        """
        if output_fmt != "NCHW" or norm:
            raise ConfigError("intermediates come as output_fmt='NCHW' with norm=False alone")
        wanted, last = self._entries(indices)
        intermediates, counts = [], x
        for index, counts in enumerate(self._walk(x)):
            if index in wanted:
                intermediates.append(_mean(counts, 0))
            if index == last and stop_early and intermediates_only:
                break
        if intermediates_only:
            return intermediates
        return _mean(counts, 0).flatten(2).mT, intermediates

    def prune_intermediate_layers(
        self,
        indices: int | Sequence[int] = 1,
        prune_norm: bool = False,  # noqa: ARG002 timm's signature: there is no final norm
        prune_head: bool = True,
    ) -> list[int]:
        """Drop the blocks that no wanted entry of `feature_info` needs, and the head."""
        wanted, last = self._entries(indices)
        self.blocks = self.blocks[: max(0, last + 1 - len(self.stem.pools) + 1)]
        if prune_head:
            self.reset_classifier(0)
        return wanted

    def _entries(self, indices: int | Sequence[int] | None) -> tuple[list[int], int]:
        """Which entries of `feature_info` are wanted, and the last of them."""
        chosen = list(indices) if isinstance(indices, Sequence) else indices
        return feature_take_indices(len(self.feature_info), chosen)

    def _classify(self, pooled: Tensor) -> Tensor:
        return self.head(pooled.to(self.position.conv.weight.dtype))

    def _walk(self, images: Tensor) -> Iterator[Tensor]:
        """Counts [T, B, C, H, W] after each entry of `feature_info`."""
        *early, last = self.stem.walk(*self._steps_of(images))
        yield from early
        counts = self._enter(last)
        for block in self.blocks:
            counts = self._run(block, counts)
            yield counts

    def _steps_of(self, images: Tensor) -> tuple[Tensor, int]:
        """Time first: all frames once, or the one image and how often it is seen."""
        if images.dim() not in (4, 5) or images.shape[-3] != self.in_chans:
            raise ConfigError(
                f"input must be images [B, {self.in_chans}, H, W] or frames "
                f"[B, T, {self.in_chans}, H, W], got {[*images.shape]}"
            )
        stride = self.stem.strides[-1]
        if images.shape[-1] % stride or images.shape[-2] % stride:
            raise ConfigError(
                f"image sides must be multiples of {stride}, got {[*images.shape[-2:]]}"
            )
        if images.dim() == 5:
            return images.transpose(0, 1), 1
        return images[None], self.steps

    def _enter(self, spikes: Tensor) -> Tensor:
        return spikes + self.position(spikes)

    def _run(self, block: nn.Module, counts: Tensor) -> Tensor:
        if not (self.grad_checkpointing and self.training):
            return block(counts)
        return checkpoint(
            block,
            counts,
            use_reentrant=False,
            context_fn=lambda: (torch.enable_grad(), frozen_statistics(block)),
        )

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new head for `num_classes`, on the old one's device and in its type.

        Raises:
            ConfigError: for another `global_pool` than `avg`.
        """
        if global_pool not in (None, "avg"):
            raise ConfigError(
                f"tokens are averaged: global_pool must be 'avg', got {global_pool!r}"
            )
        self.num_classes = self.arguments["num_classes"] = num_classes
        like = self.position.conv.weight
        self.head = (
            nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype)
            if num_classes
            else nn.Identity()
        )
        _initialise_head(self.head)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade a second forward pass of every block for its activations."""
        self.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Nothing by name: timm already spares biases, norms and single numbers."""
        return set()

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:  # noqa: ARG002 timm's signature
        return {"stem": r"^stem|^position", "blocks": r"^blocks\.(\d+)"}


ARGUMENTS = frozenset(inspect.signature(Spikformer).parameters)


def _mean(counts: Tensor, axis: int) -> Tensor:
    return counts.mean(axis, dtype=accumulator(counts.dtype))


def _initialise(model: Spikformer, init: str) -> None:
    if init == "linear":
        for module in model.blocks.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    _initialise_head(model.head)


def _initialise_head(head: nn.Module) -> None:
    if isinstance(head, nn.Linear):
        nn.init.trunc_normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)


def _cfg(**overrides: Any) -> dict[str, Any]:
    return {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": None,
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "first_conv": "stem.stages.0.conv",
        "classifier": "head",
        "license": "apache-2.0",
        "paper_ids": "arXiv:2209.15425",
        **overrides,
    }


_IMAGENET_CFG = _cfg()
_CIFAR_CFG = _cfg(
    num_classes=10,
    input_size=(3, 32, 32),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)
_DVS_CFG = _cfg(num_classes=10, input_size=(2, 128, 128), mean=(0.0, 0.0), std=(1.0, 1.0))
_DIGITS_CFG = _cfg(
    num_classes=10, input_size=(1, 16, 16), mean=(0.0,), std=(1.0,), interpolation="bilinear"
)

default_cfgs = generate_default_cfgs(
    {
        "spikformer_8_384": _IMAGENET_CFG,
        "spikformer_6_512": _IMAGENET_CFG,
        "spikformer_8_512": _IMAGENET_CFG,
        "spikformer_10_512": _IMAGENET_CFG,
        "spikformer_8_768": _IMAGENET_CFG,
        "spikformer_4_256_patch4": _CIFAR_CFG,
        "spikformer_2_384_patch4": _CIFAR_CFG,
        "spikformer_4_384_patch4": _CIFAR_CFG,
        "spikformer_2_256_dvs": _DVS_CFG,
        "spikformer_2_256_gesture": {**_DVS_CFG, "num_classes": 11},
        "spikformer_2_64_patch4": _DIGITS_CFG,
    }
)

_PATCH4: dict[str, Any] = {
    "pools": (False, False, True, True),
    "num_classes": 10,
    "qkv_bias": True,
    "init": "linear",
}
_DVS: dict[str, Any] = {"in_chans": 2, "num_classes": 10, "steps": 10, "scale": 0.25}


def _create(name: str, pretrained: bool, overrides: dict[str, Any], **arguments: Any) -> nn.Module:
    """A model of a named size.

    timm's training script hands `drop_rate` and `global_pool` to every model: what they ask for
    must be what is there.
    """
    if pretrained:
        raise ConfigError(f"no pretrained weights are published for {name} yet")
    if overrides.pop("drop_rate", 0):
        raise ConfigError("drop_rate must be 0: this network has no dropout, but a drop_path_rate")
    if overrides.pop("global_pool", None) not in (None, "avg"):
        raise ConfigError("global_pool must be 'avg': tokens are averaged")
    arguments |= overrides
    stages = len(arguments.get("pools", (True,) * 4))
    last = stages - 2 + arguments["depth"]
    return build_model_with_cfg(
        Spikformer,
        name,
        pretrained,
        feature_cfg={"out_indices": (*range(stages - 1), last), "feature_cls": "getter"},
        **arguments,
    )


# Heads of 8-512, 4-384 and both event models are the paper's or the code's; the others are our
# choice, since the paper leaves them open.


@register_model
def spikformer_8_384(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Spikformer-8-384 for ImageNet. 8 heads are our choice."""
    return _create("spikformer_8_384", pretrained, kwargs, depth=8, dim=384, heads=8)


@register_model
def spikformer_6_512(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Spikformer-6-512 for ImageNet. 8 heads are our choice."""
    return _create("spikformer_6_512", pretrained, kwargs, depth=6, dim=512, heads=8)


@register_model
def spikformer_8_512(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Spikformer-8-512 for ImageNet."""
    return _create("spikformer_8_512", pretrained, kwargs, depth=8, dim=512, heads=8)


@register_model
def spikformer_10_512(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Spikformer-10-512 for ImageNet. 8 heads are our choice."""
    return _create("spikformer_10_512", pretrained, kwargs, depth=10, dim=512, heads=8)


@register_model
def spikformer_8_768(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Spikformer-8-768 for ImageNet. 12 heads are our choice."""
    return _create("spikformer_8_768", pretrained, kwargs, depth=8, dim=768, heads=12)


@register_model
def spikformer_4_256_patch4(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Spikformer-4-256 for CIFAR. 8 heads are our choice."""
    return _create(
        "spikformer_4_256_patch4", pretrained, kwargs, depth=4, dim=256, heads=8, **_PATCH4
    )


@register_model
def spikformer_2_384_patch4(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Spikformer-2-384 for CIFAR. 12 heads are our choice."""
    return _create(
        "spikformer_2_384_patch4", pretrained, kwargs, depth=2, dim=384, heads=12, **_PATCH4
    )


@register_model
def spikformer_4_384_patch4(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Spikformer-4-384 for CIFAR."""
    return _create(
        "spikformer_4_384_patch4", pretrained, kwargs, depth=4, dim=384, heads=12, **_PATCH4
    )


@register_model
def spikformer_2_256_dvs(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Spikformer-2-256 for CIFAR10-DVS, by the authors' code: 16 heads, scale 0.25."""
    return _create("spikformer_2_256_dvs", pretrained, kwargs, depth=2, dim=256, heads=16, **_DVS)


@register_model
def spikformer_2_256_gesture(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Spikformer-2-256 for DVS128 Gesture, by the paper: no code of it was published.

    8 heads, a learnable scale and a max-pool after Q and K are the paper's; that the scale is one
    number a block and starts at 0.25, and the pool's width of 3 tokens, are our choice.
    """
    arguments = {**_DVS, "num_classes": 11, "learnable_scale": True, "qk_pool": 3}
    return _create(
        "spikformer_2_256_gesture", pretrained, kwargs, depth=2, dim=256, heads=8, **arguments
    )


@register_model
def spikformer_2_64_patch4(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """A small Spikformer for 16 x 16 digits; ours, not the paper's."""
    arguments = {**_PATCH4, "in_chans": 1}
    return _create(
        "spikformer_2_64_patch4", pretrained, kwargs, depth=2, dim=64, heads=4, **arguments
    )
