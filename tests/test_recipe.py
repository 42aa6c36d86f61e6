import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikformer._values import refusal
from spikformer.errors import ConfigError
from spikformer.recipe import HINTS, Augment, Data, Model, Optim, Recipe, Trainer
from spikformer.recipes import RECIPES, find_recipe


def small(**overrides):
    parts = {
        "name": "small",
        "model": Model(name="spikformer_2_64_patch4"),
        "data": Data(name="digits"),
        "trainer": Trainer(epochs=3),
    }
    return Recipe(**(parts | overrides))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_json(name):
    recipe = find_recipe(name)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert recipe.name == name


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_begins_with_command_hardware_time_and_result(name):
    module = sys.modules[find_recipe.__module__].__path__[0]
    lines = Path(module, f"{name}.py").read_text().splitlines()[1:8]
    words = [line.split()[0] for line in lines if line]
    assert words[:4] == ["Command", "Hardware", "Time", "Result"]


def test_a_root_survives_json():
    recipe = small(data=Data(name="digits", root=Path("/data")))
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_recipes_load_no_torch():
    code = "import sys, spikformer.recipes as r; r.find_recipe('digits'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_schedule_of_the_authors_comes_out():
    # lr 5e-4, 20 epochs of warm-up from 1e-5, cosine over 300 that is not re-started, 10 at 1e-5
    recipe = find_recipe("cifar10")
    optim, epochs = recipe.optim, recipe.trainer.epochs
    assert epochs == 310
    assert optim.lr_at(0, epochs) == 1e-5
    assert optim.lr_at(1, epochs) == pytest.approx(1e-5 + 2.45e-5)
    assert optim.lr_at(10, epochs) == pytest.approx(2.55e-4)
    assert optim.lr_at(19, epochs) == pytest.approx(4.755e-4)
    # 1e-5 + 2.45e-4 (1 + cos(pi / 15)), and so on
    assert optim.lr_at(20, epochs) == pytest.approx(4.94646e-4, rel=1e-6)
    assert optim.lr_at(100, epochs) == pytest.approx(3.775e-4)
    assert optim.lr_at(200, epochs) == pytest.approx(1.325e-4)
    assert optim.lr_at(299, epochs) > 1e-5
    assert [optim.lr_at(epoch, epochs) for epoch in range(300, 310)] == [1e-5] * 10


def test_without_cool_down_the_cosine_ends_with_the_last_epoch():
    optim = Optim(lr=5e-4, min_lr=1e-5, warmup_epochs=20, warmup_lr=1e-5)
    assert optim.lr_at(200, 300) == pytest.approx(1.325e-4)
    assert optim.lr_at(200, 310) > 1.325e-4 * 1.05
    assert optim.lr_at(305, 300) == 1e-5


def test_the_recipe_of_the_authors_is_as_they_published_it():
    recipe = find_recipe("cifar10")
    assert recipe.augment == Augment(
        flip=0.5,
        rand_augment=True,
        rand_magnitude=9.0,
        rand_deviation=0.4,
        mixup=0.5,
        cutmix=0.0,
        mixing_epochs=None,
        erasing=0.25,
    )
    assert (recipe.data.batch_size, recipe.trainer.accumulate, recipe.trainer.devices) == (
        128,
        1,
        1,
    )
    assert (recipe.optim.weight_decay, recipe.optim.label_smoothing) == (0.06, 0.1)
    assert (recipe.optim.loss, recipe.optim.clip_norm, recipe.optim.ema) == ("mean", None, None)
    assert recipe.trainer.seed == 42


@given(st.integers(1, 400), st.integers(0, 400))
def test_the_rate_never_leaves_its_range(epochs, epoch):
    assert 1e-5 <= Optim(lr=1e-3, min_lr=1e-5, warmup_epochs=5).lr_at(epoch, epochs) <= 1e-3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"trainer": Trainer(epochs=0)}, "trainer.epochs must be at least 1, got 0"),
        ({"data": Data(name="digits", batch_size=0)}, "data.batch_size must be at least 1, got 0"),
        ({"data": Data(name="digits", workers=-1)}, "data.workers must be 0 or more, got -1"),
        ({"optim": Optim(lr=0.0)}, "optim.lr must be positive, got 0"),
        ({"optim": Optim(label_smoothing=1.0)}, r"label_smoothing must be in \[0, 1\), got 1"),
        ({"trainer": Trainer(epochs=1, memory_budget=0.9)}, "memory_budget is of compiled steps"),
        ({"optim": Optim(lr=math.nan)}, "optim.lr must be a finite number, got nan"),
    ],
)
def test_numbers_out_of_range_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        small(**overrides)


def test_a_stored_recipe_of_another_version_is_refused():
    values = small().to_dict()
    values["optim"]["momentum"] = 0.9
    with pytest.raises(ConfigError, match=r"not a recipe of this version.*momentum"):
        Recipe.from_dict(values)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("optim.loss", "TET", "one of mean, tet"),
        ("trainer.precision", "fp16", "one of 32, bf16, 16, 64"),
        ("trainer.epochs", 2.5, "a whole number"),
        ("trainer.epochs", True, "a whole number"),
        ("trainer.compile", 1, "True or False"),
        ("optim.lr", "fast", "a finite number"),
        ("optim.clip_norm", 0.0, "positive"),
        ("data.root", "x", "a pathlib.Path"),
        ("model.name", None, "text"),
        ("optim.lr", 1, None),
        ("optim.clip_norm", None, None),
        ("trainer.precision", "bf16", None),
        ("data.root", Path("x"), None),
    ],
)
def test_a_value_is_refused_in_words_when_it_is_not_of_its_fields_type(field, value, words):
    assert refusal(value, HINTS[field]) == words


def test_a_users_recipe_with_a_slip_of_the_pen_trains_nothing(tmp_path):
    # In a process of its own: here, the tests' type checker would see it first.
    (tmp_path / "mine.py").write_text(
        "from dataclasses import replace\n"
        "from spikformer.recipes import find_recipe\n"
        "def recipe():\n"
        "    base = find_recipe('digits')\n"
        "    return replace(base, optim=replace(base.optim, loss='TET'))\n"
    )
    command = [sys.executable, "-m", "spikformer", "train", "mine.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "optim.loss must be one of mean, tet, got 'TET'" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("part", [3, None, ["lr"]])
def test_a_stored_recipe_that_is_damaged_is_refused(part):
    with pytest.raises(ConfigError, match="not a recipe of this version"):
        Recipe.from_dict(small().to_dict() | {"data": part})


def test_a_recipe_is_found_in_a_users_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from dataclasses import replace\n"
        "from spikformer.recipes import find_recipe\n"
        "def recipe():\n    return replace(find_recipe('digits'), name='mine')\n"
    )
    assert find_recipe(str(path)) == dataclasses.replace(find_recipe("digits"), name="mine")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1", r"must define a function recipe\(\)"),
        ("def recipe(): return 3", "must return a Recipe, got int"),
        ("1 / 0", "failed with ZeroDivisionError"),
    ],
)
def test_a_users_file_that_is_no_recipe_says_why(tmp_path, content, message):
    path = tmp_path / "mine.py"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        find_recipe(str(path))


def test_unknown_recipes_list_the_near_ones():
    with pytest.raises(ConfigError, match="unknown recipe 'digit'; did you mean digits"):
        find_recipe("digit")
    with pytest.raises(ConfigError, match=r"no file 'nothing\.py'"):
        find_recipe("nothing.py")
