"""Recipes by name, or by the path of a file that defines `recipe()`. Imports no torch.

To add one, write its file here and name it in `RECIPES`.
"""

import importlib
from pathlib import Path

from spikformer._modules import load_file
from spikformer.errors import ConfigError, unknown_name
from spikformer.recipe import Recipe

RECIPES = (
    "cifar10",
    "cifar100",
    "cifar100_400",
    "cifar10_400",
    "cifar10_paper224",
    "cifar10_small",
    "cifar10dvs_T10",
    "cifar10dvs_T16",
    "digits",
    "digits_dvs",
    "dvs128gesture_T10",
    "dvs128gesture_T16",
    "imagenet_10_512",
    "imagenet_6_512",
    "imagenet_8_384",
    "imagenet_8_512",
    "imagenet_8_512_paper",
    "imagenet_8_768",
    "nmnist",
)


def find_recipe(name: str) -> Recipe:
    """A recipe by its name, or from a user's own file.

    Args:
        name: One of `RECIPES`, or the path of a `.py` file.

    Raises:
        ConfigError: for an unknown name, or a file that defines no `recipe()`.
    """
    if name.endswith(".py"):
        module = load_file(Path(name), "recipe")
        if not callable(getattr(module, "recipe", None)):
            raise ConfigError(f"{name} must define a function recipe() that returns a Recipe")
    elif name in RECIPES:
        module = importlib.import_module(f"spikformer.recipes.{name}")
    else:
        raise unknown_name("recipe", name, RECIPES)
    try:
        made = module.recipe()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"recipe() of {name} failed with {type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, Recipe):
        raise ConfigError(f"recipe() of {name} must return a Recipe, got {type(made).__name__}")
    return made
