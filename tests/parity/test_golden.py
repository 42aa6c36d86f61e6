"""Equality with the authors' code: what their three files computed, in float64, on tiny networks.

Each file of `golden/` holds their state dict, an input, and what came out: spike counts after the
stem and after every block, logits, and one training step with all its gradients and statistics.
"""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

from spikformer import Spikformer, load_weights, save_weights
from spikformer.nn import SpikingPatchSplitting

LAYOUTS = ("cifar10", "imagenet", "cifar10dvs")
every_layout = pytest.mark.parametrize("layout", LAYOUTS)


@cache
def golden(layout):
    """Everything in the file by key, and the arguments of the authors' constructor."""
    with safe_open(Path(__file__).parent / "golden" / f"{layout}.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, json.loads(  # noqa: SIM118
            file.metadata()["config"]
        )


def part(layout, prefix):
    tensors, _ = golden(layout)
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def network(layout, **replaced):
    """Ours with their weights, in float64."""
    _, config = golden(layout)
    model = Spikformer(
        config["depths"],
        config["embed_dims"],
        config["num_heads"],
        in_chans=config["in_channels"],
        num_classes=config["num_classes"],
        mlp_ratio=config["mlp_ratios"],
        steps=config.get("T", 4),
        pools=(False, False, True, True) if layout == "cifar10" else (True,) * 4,
        scale=0.25 if layout == "cifar10dvs" else 0.125,
        qkv_bias=layout == "cifar10",
    )
    load_weights(model.double(), part(layout, "weights.") | replaced)
    return model.eval()


def images(layout):
    return golden(layout)[0]["input"].double()


def expected(layout, key):
    return golden(layout)[0][key]


def tokens(layout, counts):
    """Their counts as [T, B, N, D]."""
    if layout == "cifar10":
        return counts
    return counts.flatten(3).mT


def counts_of(model, x):
    """Counts entering the first block, and leaving every block, as [T, B, N, D]."""
    seen = []
    model.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for block in model.blocks:
        block.register_forward_hook(lambda _module, _inputs, out: seen.append(out))
    with torch.no_grad():
        logits = model(x)
    return [counts.flatten(3).mT for counts in seen], logits


def close(found, wanted, relative=1e-9):
    torch.testing.assert_close(found, wanted.to(found.dtype), rtol=relative, atol=relative)


def in_our_names(layout, entries):
    """Their entries under our names, joined as the weights are; ours where they have none."""
    return network(layout, **entries).state_dict()


@every_layout
def test_spike_counts_are_equal_after_the_stem_and_after_every_block(layout):
    (stem, *blocks), _ = counts_of(network(layout), images(layout))
    assert 0.05 < stem.mean() < 1
    assert torch.equal(stem, tokens(layout, expected(layout, "eval.patch_embed")).double())
    assert len(blocks) == 2
    for index, counts in enumerate(blocks):
        wanted = tokens(layout, expected(layout, f"eval.block.{index}")).double()
        assert wanted.max() >= 2
        assert torch.equal(counts, wanted)


@every_layout
def test_logits_are_equal(layout):
    with torch.no_grad():
        logits = network(layout)(images(layout))
    close(logits, expected(layout, "eval.logits"))


@pytest.fixture(scope="module", params=LAYOUTS)
def trained(request):
    """Layout, model, logits and loss after one training step."""
    layout = request.param
    model = network(layout).train()
    logits = model(images(layout))
    loss = F.cross_entropy(logits, expected(layout, "target"))
    loss.backward()
    return layout, model, logits.detach(), loss.detach()


def test_logits_and_loss_of_a_training_step_are_equal(trained):
    layout, _, logits, loss = trained
    close(logits, expected(layout, "train.logits"))
    close(loss, expected(layout, "train.loss").squeeze())


def test_running_statistics_after_a_training_step_are_equal(trained):
    layout, model, *_ = trained
    wanted = in_our_names(layout, part(layout, "train.after."))
    before = network(layout).state_dict()
    found = {name: b for name, b in model.named_buffers() if "running" in name}
    assert len(found) == 2 * (5 + 4 * len(model.blocks))
    for name, buffer in found.items():
        assert not torch.equal(wanted[name], before[name])
        close(buffer, wanted[name])


def test_every_gradient_of_a_training_step_is_equal(trained):
    layout, model, *_ = trained
    wanted = in_our_names(layout, part(layout, "train.grad."))
    for name, parameter in model.named_parameters():
        error = (parameter.grad - wanted[name]).abs().max()
        # To float32, in which theirs are kept; biases in front of a norm have none but rounding.
        assert error <= max(1e-6 * wanted[name].abs().max(), 1e-12), name


@every_layout
def test_weights_return_to_the_authors_to_the_bit(layout, tmp_path):
    model = network(layout).float()
    path = tmp_path / "theirs.pth"
    report = save_weights(model, path, layout=layout)
    found = torch.load(path, weights_only=True)["state_dict"]
    wanted = part(layout, "weights.")
    assert found.keys() == wanted.keys()
    for key in wanted.keys() - set(report.dead):
        assert torch.equal(found[key], wanted[key]), key
    assert set(report.dead) <= {k for k in wanted if "norm" in k or k == "pos_embed"}


class PoolsBeforeNeurons(SpikingPatchSplitting):
    """The stem of Spikformer-CML, which pools currents instead of spikes."""

    def walk(self, images, repeats=1):
        x = images
        for stage, pool in zip(self.stages, self.pools, strict=True):
            current = stage.norm(stage.conv(x.flatten(0, 1)), repeats)
            pooled = pool(current).unflatten(0, (x.shape[0], -1))
            x = stage.neuron(pooled.expand(repeats * x.shape[0], *pooled.shape[1:]))
            repeats = 1
            yield x


@every_layout
def test_pooling_before_the_neuron_is_another_network(layout):
    # The same weights, one order exchanged: the tests above do tell the difference.
    model = network(layout)
    model.stem.__class__ = PoolsBeforeNeurons
    (stem, *_), logits = counts_of(model, images(layout))
    wanted = tokens(layout, expected(layout, "eval.patch_embed")).double()
    assert (stem != wanted).double().mean() > 0.01
    assert (logits - expected(layout, "eval.logits")).abs().max() > 1e-3
