import dataclasses

import pytest
import torch
from helpers.trainings import SMALL, differences, digits, end

from spikformer import Card, load_model, read_card, save_weights
from spikformer.data import load_data
from spikformer.errors import ConfigError, DataError
from spikformer.training import evaluation
from spikformer.training.evaluation import evaluate
from spikformer.training.prediction import predict


def test_accuracies_are_what_counting_gives(quick_run):
    found = evaluate(quick_run.path)
    data = load_data("digits")
    model = load_model(quick_run.best)
    with torch.inference_mode():
        steps = model.forward_steps(data.test.images.float() / 255)
    right = steps.mean(0).argmax(1) == data.test.labels
    assert found.samples == 540
    assert found.top1 == right.double().mean().item()
    assert found.by_class["3"] == right[data.test.labels == 3].double().mean().item()
    assert found.by_step[-1] == found.top1
    assert found.by_step[0] == (steps[0].argmax(1) == data.test.labels).double().mean().item()
    assert found.top5 > found.top1
    assert found.split_hash == data.split_hash


def test_firing_rates_are_what_counting_gives(quick_run):
    found = evaluate(quick_run.path, split="validation")
    model = load_model(quick_run.best)
    spikes = []
    model.blocks[1].mlp.fc1.neuron.register_forward_hook(lambda _m, _i, out: spikes.append(out))
    with torch.inference_mode():
        model(load_data("digits").validation.images.float() / 255)
    assert found.firing_rates["blocks.1.mlp.fc1"] == pytest.approx(
        spikes[0].mean().item(), abs=1e-7
    )
    assert len(found.firing_rates) == 4 + 1 + 2 * 5
    assert 0 < found.firing_rate < 0.5


def turned(*source, **choices):
    """The data, with another label for every test image."""
    data = load_data(*source, **choices)
    labels = (data.test.labels + 1) % 10
    return dataclasses.replace(data, test=dataclasses.replace(data.test, labels=labels))


def test_turning_the_test_labels_changes_the_accuracy_and_nothing_else(quick_run, monkeypatch):
    before = evaluate(quick_run.path)
    monkeypatch.setattr(evaluation, "load_data", turned)
    after = evaluate(quick_run.path)
    assert after.top1 < before.top1
    moved = {"top1", "top5", "by_class", "by_step"}
    for field in dataclasses.fields(after):
        if field.name not in moved:
            assert getattr(after, field.name) == getattr(before, field.name)


def test_the_test_labels_change_no_weight_even_where_every_epoch_is_tested(tmp_path, monkeypatch):
    from spikformer.training import fit
    from spikformer.training.fit import train

    recipe = digits(SMALL, {"optim.ema": 0.9}, epochs=2, paper_protocol=True)
    ours = train(recipe, tmp_path / "ours")
    monkeypatch.setattr(fit, "load_data", turned)
    theirs = train(recipe, tmp_path / "turned")
    different = {path.rsplit("/")[-1].split(":")[0] for path in differences(end(ours), end(theirs))}
    assert different == {"test_top1", "test_loss", "top1_paper_protocol"}


def test_data_that_do_not_fit_the_model_are_refused(quick_run, tmp_path):
    model = load_model(quick_run.best)
    path = tmp_path / "other.safetensors"
    card = Card("spikformer_2_64_patch4", model.arguments, ("a", "b"), input_size=(1, 16, 16))
    save_weights(model, path, card=card)
    with pytest.raises(ConfigError, match=r"knows 2 classes \(a, b\); digits has"):
        evaluate(path, data="digits")
    with pytest.raises(ConfigError, match="does not say what it was trained on"):
        evaluate(path)


def test_weights_that_know_no_classes_see_the_data_as_our_recipes_do(quick_run, tmp_path):
    model, data = load_model(quick_run.best), load_data("digits")
    path = tmp_path / "plain.safetensors"
    save_weights(
        model,
        path,
        card=Card("spikformer_2_64_patch4", model.arguments, mean=(0.5,), input_size=(1, 16, 16)),
    )
    found = evaluate(path, data="digits")
    assert found.top1 == evaluate(quick_run.path).top1
    assert list(found.by_class) == list(data.classes)
    model.reset_classifier(7)
    save_weights(model, path)
    with pytest.raises(ConfigError, match="knows no classes by name; digits has"):
        evaluate(path, data="digits")


def test_unknown_sources_and_splits_are_named(quick_run, tmp_path):
    with pytest.raises(DataError, match=r"it has no run\.json"):
        evaluate(tmp_path)
    with pytest.raises(DataError, match="no file"):
        evaluate(tmp_path / "none.safetensors")
    with pytest.raises(ConfigError, match="unknown split 'tset'; did you mean test"):
        evaluate(quick_run.path, split="tset")
    with pytest.raises(ConfigError, match="unknown data set"):
        evaluate(quick_run.path, data="digit")


def test_files_are_predicted_as_the_split_they_come_from(quick_run, tmp_path):
    from PIL import Image

    data = load_data("digits")
    paths = []
    for k in range(5):
        paths.append(tmp_path / f"{k}.png")
        Image.fromarray(data.test.images[k, 0].numpy()).save(paths[-1])
    with torch.inference_mode():
        shares = load_model(quick_run.best)(data.test.images[:5].float() / 255).softmax(-1)
    for prediction, row in zip(predict(quick_run.path, paths), shares, strict=True):
        assert prediction.best == str(row.argmax().item())
        assert list(prediction.probabilities.values()) == pytest.approx(
            row.sort(descending=True).values.tolist(), abs=1e-6
        )


def test_one_bad_file_stops_before_anything_is_predicted(quick_run, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no")
    with pytest.raises(DataError, match=r"bad\.png"):
        predict(quick_run.path, [tmp_path / "bad.png"])


def test_permuted_training_labels_give_chance(tmp_path, monkeypatch):
    from spikformer.training import fit
    from spikformer.training.fit import train

    from .conftest import quick_recipe

    def permuted(*source, **choices):
        data = load_data(*source, **choices)
        order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
        labels = data.train.labels[order]
        return dataclasses.replace(data, train=dataclasses.replace(data.train, labels=labels))

    monkeypatch.setattr(fit, "load_data", permuted)
    done = train(quick_recipe(epochs=4), tmp_path / "permuted")
    # 540 images at chance: 0.1 with a deviation of 0.013. Best of 4 epochs on validation.
    assert 0.04 < evaluate(done.path).top1 < 0.17


def test_weights_trained_on_another_split_are_refused(quick_run, tmp_path):
    model, card = load_model(quick_run.best), read_card(quick_run.best)
    path = tmp_path / "other.safetensors"
    other = dataclasses.replace(card, facts=card.facts | {"split_hash": "0" * 64})
    save_weights(model, path, card=other)
    with pytest.raises(ConfigError, match="was trained on another split of digits"):
        evaluate(path)
