"""The command line: `spikformer COMMAND ...`. Each command is a file of this package.

A command parses its options, calls a public function and formats what comes back. Only the chosen
one is imported, so that help is quick.
"""

import sys
from collections.abc import Sequence
from importlib import import_module

from spikformer import __version__
from spikformer.errors import SpikformerError, unknown_name

COMMANDS = {
    "train": "train a recipe, or go on with a run",
    "evaluate": "accuracy and firing rates of a run or of weights",
    "report": "one HTML page about a run",
    "compare": "runs side by side: settings, results, curves",
    "predict": "class probabilities for image files",
    "profile": "what a network computes, and what that costs by every convention",
    "check": "what any spiking network promises: samples and steps apart, spikes 0 and 1",
    "diff": "the layer, step and neuron where two networks part",
    "export": "one file that runs on a plain CPU without PyTorch",
    "models": "list the models",
    "data": "list the data sets, and what is found of them",
    "bench": "speed, latency and memory against other ways to run a network",
    "doctor": "versions, devices, and which kernels run and why",
}
HELP = ("-h", "--help")
BAD_INPUT, BUG, INTERRUPTED = 2, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0, 1 where `check` or `diff` found something, 2 for bad input, 130 when
        interrupted, 1 for a bug of ours.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "--debug" in words:
        return _run([word for word in words if word != "--debug"])
    try:
        return _run(words)
    except KeyboardInterrupt as stop:
        return _fail(str(stop) or "interrupted", INTERRUPTED)
    except (SpikformerError, OSError) as error:
        return _fail(str(error), BAD_INPUT)
    except Exception as error:
        return _fail(f"{type(error).__name__}: {error} (a bug of ours; --debug shows where)", BUG)


def _run(words: Sequence[str]) -> int:
    if not words or words[0] in HELP:
        sys.stdout.write(_usage() + "\n")
    elif words[0] == "--version":
        sys.stdout.write(__version__ + "\n")
    elif words[0] in COMMANDS:
        return import_module(f"spikformer.cli.{words[0]}").main(words[1:]) or 0
    else:
        raise unknown_name("command", words[0], COMMANDS)
    return 0


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "Spiking transformers: train them, measure them, run them.",
            "",
            "usage: spikformer COMMAND ...",
            "",
            *lines,
            "",
            "spikformer COMMAND --help says more. --debug shows tracebacks, --version the version.",
        ]
    )


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"spikformer: {message}\n")
    return code
