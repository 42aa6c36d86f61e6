"""What the options of a recipe do to a training, seen from outside."""

from contextlib import contextmanager

import pytest
import timm.optim
import torch
from helpers.trainings import SMALL, checkpoint, digits
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_post_hook

from spikformer import create_model
from spikformer.training import module
from spikformer.training.evaluation import evaluate
from spikformer.training.fit import train
from spikformer.training.module import Classifier, training_loss
from spikformer.training.run import read_curve

TINY = SMALL | {"model.depth": 1, "trainer.accelerator": "cpu"}
ONE_EPOCH = TINY | {"trainer.epochs": 1}


@contextmanager
def watched(look):
    """Calls `look(optimizer)` after every step of any optimizer."""
    seen = []
    handle = register_optimizer_step_post_hook(lambda o, _args, _kwargs: seen.append(look(o)))
    try:
        yield seen
    finally:
        handle.remove()


def norm_of_gradients(optimizer):
    grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
    return float(torch.nn.utils.get_total_norm([g for g in grads if g is not None]))


def test_every_epoch_has_the_rate_of_its_schedule(tmp_path):
    schedule = {"optim.warmup_epochs": 2, "optim.cooldown_epochs": 1, "optim.warmup_lr": 1e-4}
    recipe = digits(TINY, schedule, epochs=5)
    with watched(lambda optimizer: optimizer.param_groups[0]["lr"]) as rates:
        run = train(recipe, tmp_path / "run")
    expected = [recipe.optim.lr_at(epoch, 5) for epoch in range(5)]
    assert len(set(expected)) == 5
    assert [row["lr"] for row in read_curve(run.curve)] == pytest.approx(expected, rel=1e-12)
    steps = len(rates) // 5
    assert rates == pytest.approx([rate for rate in expected for _ in range(steps)], rel=1e-12)


def test_what_decays_is_what_timm_decays():
    recipe = digits()
    model = create_model("spikformer_2_64_patch4", learnable_scale=True, qkv_bias=True)
    spared, decaying = (
        Classifier(model, recipe, ()).configure_optimizers()["optimizer"].param_groups
    )
    theirs = timm.optim.param_groups_weight_decay(model, recipe.optim.weight_decay)
    for ours, other in zip((spared, decaying), theirs, strict=True):
        assert {*map(id, ours["params"])} == {*map(id, other["params"])}
        assert ours["weight_decay"] == other["weight_decay"]
    assert decaying["weight_decay"] > 0


def test_what_is_kept_and_evaluated_is_the_average(tmp_path):
    run = train(digits(ONE_EPOCH, {"optim.ema": 0.9}), tmp_path / "run")
    state, kept = checkpoint(run)["state_dict"], load_file(run.last)
    for name, value in kept.items():
        assert torch.equal(value, state[f"average.module.{name}"])
    assert not torch.equal(kept["head.weight"], state["model.head.weight"])
    (row,) = read_curve(run.curve)
    found = evaluate(run.last, split="validation")
    assert abs(found.top1 - row["validation_top1"]) <= 1 / 500  # a spike on the threshold


def test_gradients_are_clipped_to_their_norm(tmp_path):
    for limit, clipped in ((0.01, True), (1e6, False)):
        with watched(norm_of_gradients) as norms:
            train(digits(ONE_EPOCH, {"optim.clip_norm": limit}), tmp_path / str(limit))
        if clipped:
            assert norms == pytest.approx([limit] * len(norms), rel=1e-3)
        else:
            assert min(norms) > 0.01


@pytest.mark.parametrize("strict", [True, False])
def test_a_deterministic_run_refuses_what_is_not_and_leaves_its_process_as_it_was(tmp_path, strict):
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(not strict)
    try:
        with watched(lambda _: torch.are_deterministic_algorithms_enabled()) as seen:
            train(digits(ONE_EPOCH, deterministic=strict), tmp_path / "run")
        assert set(seen) == {strict}
        assert torch.are_deterministic_algorithms_enabled() == (not strict)
    finally:
        torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize(
    ("options", "dtype", "dims"),
    [
        ({"trainer.precision": "bf16"}, torch.bfloat16, 2),
        ({"trainer.precision": "64"}, torch.float64, 2),
        ({"trainer.precision": "32", "optim.loss": "tet"}, torch.float32, 3),
    ],
    ids=["bf16", "64", "tet"],
)
def test_the_loss_gets_logits_of_the_precision_and_the_kind_that_was_asked_for(
    tmp_path, monkeypatch, options, dtype, dims
):
    seen = set()

    def watching(logits, targets, optim):
        seen.add((logits.dtype, logits.dim()))
        return training_loss(logits, targets, optim)

    monkeypatch.setattr(module, "training_loss", watching)
    train(digits(ONE_EPOCH, options), tmp_path / "run")
    assert seen == {(dtype, dims)}


def test_losses_are_computed_in_float32_at_least():
    steps = torch.randn(2, 4, 10).bfloat16()
    labels = torch.arange(4)
    for options in ({"optim.loss": "tet"}, {}):
        optim = digits(options).optim
        logits = steps if options else steps[0]
        assert torch.equal(
            training_loss(logits, labels, optim), training_loss(logits.float(), labels, optim)
        )
        assert training_loss(logits.double(), labels, optim).dtype == torch.float64


def test_the_papers_protocol_is_the_best_epoch_on_test_and_stands_beside_the_result(
    quick_run, tmp_path
):
    run = train(digits(epochs=2, paper_protocol=True), tmp_path / "run")
    curve, facts = read_curve(run.curve), run.facts()
    tested = [row["test_top1"] for row in curve]
    assert len(set(tested)) == 2
    assert facts["top1_paper_protocol"] == max(tested)
    assert facts["protocol"] == "best on validation"
    # 540 test images; evaluated in other batches, a spike on the threshold may round apart.
    assert abs(evaluate(run.last).top1 - tested[-1]) <= 1 / 540
    # The same run without it says nothing of the kind, and has the same weights.
    assert "top1_paper_protocol" not in quick_run.facts()
    ours, plain = load_file(run.best), load_file(quick_run.best)
    assert all(torch.equal(ours[name], plain[name]) for name in plain)
