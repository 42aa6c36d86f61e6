"""Every figure that the paper and others print comes out of the same arithmetic."""

import pytest
import torch

from spikformer import create_model
from spikformer.energy import profile
from spikformer.energy.published import FIRST_LAYER_OF_512, PRINTED, remark

MAC, AC = 4.6, 0.9


def test_the_first_layer_of_512_is_that_of_the_model():
    model = create_model("spikformer_8_512", depth=1)
    first, *_ = profile(model, [torch.zeros(1, 3, 224, 224)]).rows()
    assert first["macs"] == FIRST_LAYER_OF_512 == 4 * 86_704_128


@pytest.mark.parametrize("name", PRINTED)
def test_the_papers_energies_charge_the_first_layer_of_512_to_all(name):
    row = PRINTED[name]
    assert row.recomputed_mj() == pytest.approx(row.energy_mj, rel=2e-4)


def test_each_with_its_own_first_layer():
    own = [f"{row.recomputed_mj(row.own_first_layer):.3f}" for row in PRINTED.values()]
    assert own == ["7.335", "9.416", "11.576", "13.898", "22.274"]


def test_the_remark_says_so():
    assert "prints 7.734 mJ" in remark("spikformer_8_384")
    assert "With its own (0.260 G) it is 7.335 mJ" in remark("spikformer_8_384")
    assert "which is this one's" in remark("spikformer_8_512")
    assert remark("spikformer_4_384_patch4") is None


@pytest.mark.slow
def test_the_papers_ann_is_all_maps_and_the_attention_of_one_block():
    model = create_model("spikformer_8_512", steps=1, num_classes=0)
    rows = profile(model, [torch.zeros(1, 3, 224, 224)]).rows()
    maps = sum(row["macs"] for row in rows if row["role"] == "map")
    tokens, width = 14 * 14, 512
    assert f"{maps / 1e9:.6f}" == "8.256160"
    assert f"{MAC * (maps + 4 * tokens**2 * width) / 1e9:.3f}" == "38.340"


@pytest.mark.parametrize(
    ("steps", "tokens", "width", "operations", "microjoules"),
    [(16, 64, 256, "16.78", "77.2"), (4, 64, 384, "6.29", "28.9")],
)
def test_table_1_counts_one_product_of_one_block(steps, tokens, width, operations, microjoules):
    counted = steps * tokens**2 * width
    assert f"{counted / 1e6:.2f}" == operations
    assert f"{MAC * counted / 1e6:.1f}" == microjoules


def test_figure_1_and_the_log_of_spikingformer():
    assert f"{MAC * 77:.1f}" == "354.2"
    assert f"{AC * 12.51 + MAC * 0.521:.2f}" == "13.66"
