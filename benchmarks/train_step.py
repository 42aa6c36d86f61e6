"""How fast is a training step of Spikformer-4-384, against SpikingJelly 2.0?

A step is forward, backward and AdamW. Correctness first, then all contenders in turn, each in its own
process; see `_comparison.py`. Wants `pip install 'spikformer[bench]'`.

    python benchmarks/train_step.py [--batches 1 32 128] [--precisions bf16 fp32] [--out F]
"""

import tyro
from _comparison import Options, run

if __name__ == "__main__":
    run("train", tyro.cli(Options))
