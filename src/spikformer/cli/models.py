"""`spikformer models [PATTERN]`."""

from collections.abc import Sequence
from typing import Annotated

import tyro

from spikformer.cli._options import console, plain_table, run
from spikformer.errors import unknown_name


def main(arguments: Sequence[str]) -> None:
    run("models", models_command, arguments)


def models_command(pattern: Annotated[str, tyro.conf.Positional] = "*") -> None:
    """List the models.

    Args:
        pattern: Names to show, with wildcards: '*patch4'.
    """
    import torch

    from spikformer.models import Spikformer, create_model, list_models

    names = list_models(pattern)
    if not names:
        raise unknown_name("model", pattern, list_models())
    table = plain_table("name", "depth", "width", "heads", "input", "steps", "parameters")
    for name in names:
        with torch.device("meta"):
            model = create_model(name)
        assert isinstance(model, Spikformer)
        made, size = model.arguments, model.default_cfg["input_size"]
        parameters = sum(p.numel() for p in model.parameters())
        table.add_row(
            name,
            *(str(made[key]) for key in ("depth", "dim", "heads")),
            " x ".join(map(str, size)),
            str(made["steps"]) if size[0] != 2 else "from data",
            f"{parameters:,}",
        )
    console.print(table)
