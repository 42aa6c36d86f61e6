import numpy as np
import pytest
import torch

from spikformer.bench.contenders import Materials
from spikformer.bench.preparation import enliven
from spikformer.bench.subject import Seen, find_images
from spikformer.errors import ConfigError, DataError
from spikformer.models import create_model, save_weights
from spikformer.probe import firing_rates

TINY = {"depth": 1, "dim": 32, "heads": 2, "steps": 2}


def tiny():
    return create_model("spikformer_2_64_patch4", **TINY).eval()


@pytest.fixture
def weights(tmp_path):
    save_weights(tiny(), tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def test_real_images_and_others_to_calibrate_on(weights):
    found = find_images(weights, Seen(data="digits", images=6, calibration=3), 4)
    assert found.real
    assert found.images.shape == (6, 1, 16, 16)
    assert found.calibration.shape == (3, 1, 16, 16)
    assert found.images.dtype == np.float32
    assert "digits test, 6 images" in found.what


def test_the_largest_batch_is_always_filled(weights):
    assert len(find_images(weights, Seen(data="digits", images=2), 5).images) == 5


def test_weights_that_name_no_data_see_random_images_and_it_is_said(weights):
    found = find_images(weights, Seen(images=4), 1)
    assert not found.real
    assert "do not say what they were trained on" in found.what


def test_frames_for_two_polarities(tmp_path):
    model = create_model("spikformer_2_256_dvs", depth=1, dim=32, heads=2)
    save_weights(model, tmp_path / "dvs.safetensors")
    found = find_images(tmp_path / "dvs.safetensors", Seen(images=1, calibration=1), 1)
    assert found.images.shape == (1, 10, 2, 128, 128)
    assert set(np.unique(found.images)) == {0.0, 1.0}


def test_data_that_were_asked_for_must_be_there(weights, tmp_path):
    with pytest.raises(DataError):
        find_images(weights, Seen(root=tmp_path / "none", data="cifar10"), 1)
    with pytest.raises(ConfigError, match="must be at least 1"):
        find_images(weights, Seen(images=0), 1)


def test_an_untrained_network_fires_when_enlivened():
    model, images = tiny(), torch.rand(8, 1, 16, 16)
    enliven(model, images)
    assert not model.training
    with firing_rates(model) as rates, torch.no_grad():
        model(images)
    # So small a network's attention counts too few spikes to fire.
    assert all(rate > 0.01 for name, rate in rates.by_layer().items() if "attention" not in name)


@pytest.mark.compiled
def test_the_exported_graph_says_the_same(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from spikformer.bench.onnx import write_graph

    model = tiny()
    images = np.random.default_rng(0).random((3, 1, 16, 16), np.float32)
    enliven(model, torch.from_numpy(images))
    write_graph(model, images, tmp_path / "tiny.onnx")
    graph = runtime.InferenceSession(tmp_path / "tiny.onnx", providers=["CPUExecutionProvider"])
    (logits,) = graph.run(None, {graph.get_inputs()[0].name: images})
    with torch.no_grad():
        expected = model(torch.from_numpy(images)).numpy()
    # Sums of at most 288 products of numbers near 1, rounded in another order.
    assert np.abs(logits - expected).max() < 1e-4


def test_spikingjelly_with_our_weights_is_our_network_once_its_pools_are_moved(tmp_path):
    pytest.importorskip("spikingjelly")
    from spikformer.bench.spikingjelly import carry_over, move_pools

    model = tiny()
    images = torch.rand(3, 1, 16, 16)
    enliven(model, images)
    for name, bias in model.named_parameters():
        if name.endswith("conv.bias"):
            torch.nn.init.normal_(bias, std=0.1)
    save_weights(model, tmp_path / "tiny.safetensors")
    np.save(tmp_path / "images.npy", images.numpy())
    materials = Materials(tmp_path / "tiny.safetensors", {}, tmp_path / "images.npy", tmp_path, 1)
    theirs = carry_over(materials)
    move_pools(theirs.network)
    with torch.no_grad():
        logits, others = (each.double().eval()(images.double()) for each in (model, theirs))
    assert (logits - others).abs().max() < 1e-9
    assert logits.std() > 1e-3


def test_spikingjelly_refuses_what_it_has_not(tmp_path):
    from spikformer.bench.spikingjelly import carry_over

    save_weights(
        create_model("spikformer_2_64_patch4", **TINY, attention="vsa"),
        tmp_path / "vsa.safetensors",
    )
    np.save(tmp_path / "images.npy", np.zeros((1, 1, 16, 16), np.float32))
    materials = Materials(tmp_path / "vsa.safetensors", {}, tmp_path / "images.npy", tmp_path, 1)
    with pytest.raises(ConfigError, match="cannot be given this network: attention"):
        carry_over(materials)
