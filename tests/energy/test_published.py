"""Every figure that the paper and others print comes out of the same arithmetic."""

import pytest
import torch

from spikformer import create_model
from spikformer.energy import Costs, profile
from spikformer.energy.published import FIRST_LAYER_OF_512, PRINTED, remark

MAC = 4.6


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
    ("name", "shape", "operations", "microjoules"),
    [
        ("spikformer_4_384_patch4", (1, 4, 3, 32, 32), "6.29", "28.9"),
        pytest.param(
            "spikformer_2_256_dvs", (1, 16, 2, 128, 128), "16.78", "77.2", marks=pytest.mark.slow
        ),
    ],
)
def test_table_1_counts_one_product_of_one_block(name, shape, operations, microjoules):
    model = create_model(name, depth=1, attention="vsa_float", in_chans=shape[2])
    for parameter in (p for n, p in model.named_parameters() if n.endswith("norm.bias")):
        torch.nn.init.constant_(parameter, 0.7)  # or all would be silent
    found = profile(model, [torch.rand(shape)])
    (place,) = (p for p in found.places if p.operation.role == "attention")
    first, _ = place.operation.products
    assert f"{first.macs / 1e6:.2f}" == operations
    charged = next(r["spikformer_pj"] for r in found.rows() if r["role"] == "attention")
    assert f"{charged / 2 / 1e6:.1f}" == microjoules  # both products alike, both of real numbers


def test_figure_1_and_the_log_of_spikingformer_have_these_constants():
    costs = Costs()
    assert f"{costs.mac_pj * 77:.1f}" == "354.2"  # 77 M of softmax attention, in uJ
    assert f"{costs.ac_pj * 12.51 + costs.mac_pj * 0.521:.2f}" == "13.66"  # G of each, in mJ
