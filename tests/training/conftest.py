"""A run that takes seconds, shared by all tests that only read it."""

import dataclasses

import pytest

from spikformer.recipe import Recipe
from spikformer.recipes import find_recipe


def quick_recipe(epochs: int = 2, **data) -> Recipe:
    """The digits recipe, cut to a few epochs; step for step the same otherwise."""
    recipe = find_recipe("digits")
    return dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, **data),
        trainer=dataclasses.replace(recipe.trainer, epochs=epochs),
    )


@pytest.fixture(scope="session")
def quick_run(tmp_path_factory):
    from spikformer.training.fit import train

    return train(quick_recipe(), tmp_path_factory.mktemp("quick") / "run")
