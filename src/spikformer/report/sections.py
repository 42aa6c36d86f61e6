"""What a report shows, section by section, as plain dictionaries."""

from typing import Any

import torch

from spikformer.models import Card
from spikformer.nn import SpikingSelfAttention
from spikformer.report.looks import Looks
from spikformer.report.pictures import data_uri
from spikformer.training.run import Run, read_curve

MOST_CLASSES = 25
"""Of a confusion matrix that can be read."""
MISTAKES, CONFUSIONS = 24, 12
IN_THE_TABLE = ("spikformer", "spikformer-strict", "with-memory", "ann-twin")
"""Conventions beside the accuracy of each step."""


def run_section(
    run: Run, card: Card, evaluation: dict[str, Any], parameters: int
) -> dict[str, Any]:
    """What was trained, on what, and what came of it."""
    facts = run.facts()
    recipe = facts["recipe"]
    return {
        "name": run.path.resolve().name,
        "recipe": recipe["name"],
        "model": card.model,
        "arguments": {k: v for k, v in card.arguments.items() if v is not None},
        "parameters": parameters,
        "data": evaluation["data"],
        "split_name": evaluation["split_name"],
        "split_hash": evaluation["split_hash"],
        "protocol": facts["protocol"],
        "epochs": facts["epochs"],
        "chosen_epoch": card.facts.get("epoch"),
        "hours": facts["hours"],
        "seed": facts["seed"],
        "precision": facts["precision"],
        "written": facts["written"],
        "samples": evaluation["samples"],
        "top1": evaluation["top1"],
        "top5": evaluation["top5"],
        "validation_top1": card.facts.get("validation_top1"),
        "top1_paper_protocol": facts.get("top1_paper_protocol"),
        "firing_rate": evaluation["firing_rate"],
        "settings": {
            f"{part}.{name}": value
            for part, fields in recipe.items()
            if isinstance(fields, dict)
            for name, value in fields.items()
            if value is not None
        },
    }


def curves_section(run: Run) -> dict[str, Any]:
    """A line for each epoch."""
    rows = read_curve(run.curve)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return {"columns": columns, "rows": [[row.get(name) for name in columns] for row in rows]}


def confusion_section(looks: Looks) -> dict[str, Any]:
    """How often each class was taken for each other one."""
    classes = looks.subject.data.classes
    pairs = looks.labels * len(classes) + looks.shares.argmax(-1)
    counts = torch.bincount(pairs, minlength=len(classes) ** 2).view(len(classes), -1)
    wrong = counts.clone().fill_diagonal_(0).flatten()
    order = wrong.argsort(descending=True, stable=True)[:CONFUSIONS].tolist()
    return {
        "classes": list(classes),
        "counts": counts.tolist() if len(classes) <= MOST_CLASSES else None,
        "most": [
            {
                "label": classes[pair // len(classes)],
                "answer": classes[pair % len(classes)],
                "count": int(wrong[pair]),
                "of": int(counts[pair // len(classes)].sum()),
            }
            for pair in order
            if wrong[pair]
        ],
        "samples": len(looks.labels),
        "split": looks.split,
    }


def mistakes_section(looks: Looks) -> dict[str, Any]:
    """The images that the network is surest and wrong about."""
    classes = looks.subject.data.classes
    sure, answers = looks.shares.max(-1)
    right = looks.shares.gather(1, looks.labels[:, None])[:, 0]
    wrong = (answers != looks.labels).nonzero()[:, 0]
    worst = wrong[(sure - right)[wrong].argsort(descending=True, stable=True)]
    pictures = looks.raw(worst[:MISTAKES]) if len(worst) else ()
    return {
        "wrong": len(wrong),
        "samples": len(answers),
        "images": [
            {
                "picture": data_uri(picture),
                "number": int(looks.chosen[at]),
                "label": classes[int(looks.labels[at])],
                "answer": classes[int(answers[at])],
                "answer_share": float(sure[at]),
                "label_share": float(right[at]),
            }
            for at, picture in zip(worst[:MISTAKES].tolist(), pictures, strict=True)
        ],
    }


def rates_section(looks: Looks) -> dict[str, Any]:
    """How often layers fire at each step, and which of their neurons never or always do."""
    rates, means = looks.rates.by_step(), looks.rates.by_layer()
    by_head = _by_head(looks)
    silent, saturated = looks.activity.silent(), looks.activity.saturated()
    return {
        "steps": len(looks.logits),
        "samples": len(looks.labels),
        "mean": looks.rates.mean(),
        "highest": max(max(of_layer) for of_layer in rates.values()),
        "layers": [
            {
                "layer": layer,
                "by_step": by_step,
                "mean": means[layer],
                "silent": silent[layer],
                "saturated": saturated[layer],
            }
            for layer, by_step in rates.items()
        ],
        "by_head": by_head,
        "head_names": [
            f"Head {n}" for n in range(1, 1 + len(by_head[0]["rates"] if by_head else ()))
        ],
    }


def _by_head(looks: Looks) -> list[dict[str, Any]]:
    """Rates of queries, keys and values of each head, where all blocks have as many that spike."""
    modules = looks.model.modules()
    heads = {each.heads for each in modules if isinstance(each, SpikingSelfAttention)}
    if len(heads) != 1:
        return []
    return [
        {"layer": layer.removesuffix(".qkv"), "part": part, "rates": rates}
        for layer, parts in looks.activity.by_head(heads.pop()).items()
        for part, rates in zip(("queries", "keys", "values"), parts.mean(0).tolist(), strict=True)
    ]


def anytime_section(
    looks: Looks, energy_by_step: dict[str, list[float]], unit: str
) -> dict[str, Any]:
    """Accuracy after every step, what stopping early saves, and what the steps cost."""
    found = looks.anytime
    names = [name for name in IN_THE_TABLE if name in energy_by_step]
    return {
        **vars(found),
        "samples": len(looks.labels),
        "energy_mj": energy_by_step,
        "headings": [f"{name}, {unit}" for name in names],
        "rows": [
            {
                "top1": top1,
                "confidence": confidence,
                "energies_mj": [energy_by_step[name][t] for name in names],
            }
            for t, (top1, confidence) in enumerate(zip(found.top1, found.confidence, strict=True))
        ],
    }


def environment_section(run: Run, evaluation: dict[str, Any]) -> dict[str, Any]:
    """Machines and versions: of each piece of the training, and of the evaluation."""
    facts = run.facts()
    trained = [
        {"what": f"training from epoch {piece['from_epoch']}", **_made_with(piece)}
        for piece in facts["pieces"]
    ]
    found = [*trained, {"what": "evaluation", **_made_with(evaluation)}]
    packages = list(dict.fromkeys(name for each in found for name in each["versions"]))
    return {"columns": found, "packages": packages}


def _made_with(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in ("hardware", "git_commit", "versions")}
