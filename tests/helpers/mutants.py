"""Engine files as nobody should write them: bytes at random, and plans that lie about their weights.

Run as a program, it loads and runs every engine whose plan was changed, and says which is next: a
crash ends the program, and the last line names the culprit. No torch in here.
"""

import copy
import json
import os
import resource
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from helpers.plans import Builder
from spikformer.engine import load
from spikformer.engine._engine import Engine
from spikformer.engine._file import KEY, VERSION
from spikformer.engine._file import digest as digest_of
from spikformer.engine._stream import State
from spikformer.errors import SpikformerError

LONGEST_SENTENCE = 1000
ODD_VALUES = (
    None, True, False, 0, 1, -1, 2, 3, 4, 5, 7, 63, 64, 65, 255, 256, 2**12, 2**16 - 1, 2**16, 2**20,
    2**22, 2**31 - 1, 2**31, 2**32 + 1, 2**62, 2**63, 2**63 + 1, 2**64 + 1, -(2**63), 10**400,
    0.0, -0.0, 0.5, 1.0, 2.0, -1.5, 1e-45, 1e39, 1e308, -1e308,
    float("nan"), float("inf"), float("-inf"),
    "", "images", "logits", "head", "layer", "pool", "add", "attention", "sum", "divide", "\ud800", "\0",
    [], [1], {}, {"kind": "head"}, [[]] * 3,
)  # fmt: skip


def network(precision="int8"):
    """Every kind of operation, small."""
    built = Builder(height=4, width=4, steps=2, precision=precision)
    built.layer(6, 3)
    built.pool()
    first = built.last
    built.layer(3 * 2 * 3, rate=0.3)
    built.attention(2, pool=3)
    built.layer(6, rate=9.0)
    built.add(first)
    built.layer(6, 3)
    built.head(3)
    return built


def parts(built):
    """The plan as JSON's objects, and the weights."""
    return json.loads(built.plan.to_json()), dict(built.arrays)


def encoded(plan, arrays, *, facts="{}", digest=None, **about):
    """A file with this plan, and by default the digest that belongs to it."""
    text = plan if isinstance(plan, str) else json.dumps(plan)
    if digest is None:
        digest = digest_of(text + facts, arrays)
    about = {"version": VERSION, "plan": text, "facts": facts, "digest": digest} | about
    return save(arrays, metadata={KEY: json.dumps(about)})


def semantic(seed=0, count=1000):
    """Pairs of a name and a file: plans changed in one or two places, weights in one."""
    plan, arrays = parts(network())
    yield from _chosen(plan, arrays)
    places = list(_places(plan))
    for place in places:
        for value in ODD_VALUES:
            yield f"{place} = {value!r:.40}", encoded(_with(plan, place, value), arrays)
        yield f"without {place}", encoded(_with(plan, place), arrays)
    random = np.random.default_rng(seed)
    for index in range(count):
        changed, names = plan, []
        for _ in range(random.integers(2, 4)):
            place = places[random.integers(len(places))]
            value = ODD_VALUES[random.integers(len(ODD_VALUES))]
            try:
                changed = _with(changed, place, value)
            except (KeyError, IndexError, TypeError):  # an earlier change took this place away
                continue
            names.append(f"{place} = {value!r:.40}")
        yield f"{index}: {'; '.join(names)}", encoded(changed, arrays)


def _chosen(plan, arrays):
    operations = plan["operations"]
    for name, other in _orders(operations).items():
        yield name, encoded(plan | {"operations": other}, arrays)
    for name, other in _renamed(operations).items():
        yield name, encoded(plan | {"operations": other}, arrays)
    for sides in ((1, 2**16 - 1), (2**9, 2**10), (2**12, 2**12), (2**16 - 1, 2**16 - 1)):
        for steps in (1, 100, 2**16 - 1):
            changed = plan | {"height": sides[0], "width": sides[1], "steps": steps}
            yield f"{sides}, {steps} steps", encoded(changed, arrays)
    for name, other in _weights(arrays).items():
        yield name, encoded(plan, other)
    for facts in (
        "",
        "[]",
        "null",
        "[" * 100_000,
        '{"x": "\ud800"}',
        '{"classes": 3}',
        "9" * 10_000,
    ):
        yield f"facts are {facts:.20}", encoded(plan, arrays, facts=facts)
    for name, text in {
        "no JSON": "{",
        "an empty text": "",
        "a list": "[]",
        "a number": "1",
        "deeper than Python": "[" * 100_000,
        "half a pair of surrogates": '"\ud800"',
        "a key twice": '{"operations": [], "operations": []}',
        "a number of many digits": '{"channels": ' + "9" * 10_000 + "}",
    }.items():
        yield name, encoded(text, arrays)


def _orders(operations):
    first, *rest = operations
    return {
        "no operations": [],
        "no head": operations[:-1],
        "two heads": [*operations, operations[-1] | {"output": "more"}],
        "only the head": operations[-1:],
        "reversed": operations[::-1],
        "first is last": [*rest, first],
        "twice": operations * 2,
        "operations of the kind of a list": [[1, 2]],
        "a cycle": [first | {"input": operations[-2]["output"]}, *rest],
        "reads itself": [first | {"input": first["output"]}, *rest],
        "reads what is not there": [first | {"input": "nothing"}, *rest],
    }


def _renamed(operations):
    """Names that belong to others: of weights, outputs and states."""
    found = {}
    named = [index for index, each in enumerate(operations) if "name" in each]
    for one in named:
        for other in named:
            if one != other:
                changed = copy.deepcopy(operations)
                changed[one]["name"] = changed[other]["name"]
                found[f"{one} is called as {other}"] = changed
    for one in range(len(operations)):
        for other in range(len(operations)):
            if one != other:
                changed = copy.deepcopy(operations)
                changed[one]["input"] = changed[other]["output"]
                found[f"{one} reads {other}"] = changed
    return found


def _weights(arrays):
    found = {}
    for name, array in arrays.items():
        less = {key: value for key, value in arrays.items() if key != name}
        found[f"no {name}"] = less
        for kind in ("bool", "i1", "u1", "i2", "f2", "i4", "f4", "f8", "i8"):
            if array.dtype != np.dtype(kind):
                found[f"{name} in {kind}"] = less | {name: array.astype(kind)}
        found[f"{name} is a number"] = less | {name: np.array(array.flat[0])}
        found[f"{name} is empty"] = less | {name: array.reshape(-1)[:0].copy()}
        found[f"{name} is flat"] = less | {name: array.reshape(-1).copy()}
        found[f"{name} is longer"] = less | {name: np.concatenate([array, array])}
        found[f"{name} is shorter"] = less | {name: array[..., :-1].copy()}
        found[f"{name} has another axis"] = less | {name: array[None].copy()}
        if array.dtype == np.float32:
            for value in (np.nan, np.inf, -np.inf, 3e38):
                found[f"{name} is {value}"] = less | {name: np.full_like(array, value)}
        else:
            found[f"{name} is -128"] = less | {name: np.full_like(array, -128)}
    found["one too many"] = arrays | {"more.weight": np.zeros(3, np.float32)}
    found["a scale too many"] = arrays | {"layer0.scale": np.ones(6, np.float32)}
    found["no weights"] = {}
    return found


def _places(tree, before=()):
    """The ways to every part of a tree of JSON."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in pairs:
        yield (*before, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*before, key))


ABSENT = object()


def _with(tree, place, value=ABSENT):
    """A copy with another value in one place, or none."""
    changed = copy.deepcopy(tree)
    *way, last = place
    inner = changed
    for key in way:
        inner = inner[key]
    if value is ABSENT:
        del inner[last]
    else:
        inner[last] = value
    return changed


def damaged(data, seed=0, count=10_000):
    """Copies of a file, each with other bytes: flipped, cut off, put in, or written in the header."""
    random = np.random.default_rng(seed)
    header = 8 + int.from_bytes(data[:8], "little")
    damages = (_flipped, _cut, _inserted, _header_edited, _length_changed)
    for index in range(count):
        yield damages[index % len(damages)](random, data, header)


def _flipped(random, data, header):
    changed = bytearray(data)
    end = header if random.random() < 0.5 else len(data)
    for at in random.integers(0, end, random.integers(1, 4)):
        changed[at] ^= 1 << random.integers(8)
    return bytes(changed)


def _cut(random, data, header):
    return data[: random.integers(0, len(data))]


def _inserted(random, data, header):
    at = random.integers(0, len(data))
    return data[:at] + random.bytes(random.integers(1, 20)) + data[at:]


def _header_edited(random, data, header):
    """Another character in the header, whose length stays true."""
    text = bytearray(data[8:header])
    for at in random.integers(0, len(text), random.integers(1, 4)):
        text[at] = random.choice(list(b'0123456789-{}[],:"\\ eEtrue'))
    return data[:8] + bytes(text) + data[header:]


def _length_changed(random, data, header):
    chosen = (0, 1, header, len(data), 2**31, 2**63, 2**64 - 1, int(random.integers(0, 2**40)))
    return random.choice(np.array(chosen, object)).to_bytes(8, "little") + data[8:]


def write(path, data):
    """To a new file each time: to cut off an old one takes ten times as long."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def load_and_run(path):
    """What a service would do with a file that it was given. Whether it answered."""
    try:
        engine = load(path, threads=1)
    except SpikformerError as error:
        if len(str(error)) > LONGEST_SENTENCE:
            raise AssertionError("this is no sentence") from error
        return False
    run(engine)
    return True


def run(engine: Engine):
    plan = engine.plan
    images = np.ones((1, plan.channels, plan.height, plan.width), np.float32)
    stream = engine.stream()
    assert stream(images).shape == (1, plan.head.classes)
    stream = engine.stream(State.from_bytes(stream.state.to_bytes()))
    stream(images)
    seen = images if plan.still else images[:, None]
    assert engine(seen).shape == (1, plan.head.classes)


def main():
    path = Path(sys.argv[1])
    answered = total = 0
    for name, data in semantic():
        os.write(1, f"{name!a}\n".encode())  # not buffered: a crash must not take it along
        write(path, data)
        answered += load_and_run(path)
        total += 1
    assert "torch" not in sys.modules
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    os.write(1, f"at most {megabytes} MB\n".encode())
    os.write(1, f"answered {answered} of {total}\n".encode())


if __name__ == "__main__":
    main()
