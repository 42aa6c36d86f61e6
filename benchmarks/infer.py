"""How fast does Spikformer-4-384 answer, against SpikingJelly 2.0?

Correctness first, then all contenders in turn, each in its own process; see `_comparison.py`. Wants
`pip install 'spikformer[bench]'`.

    python benchmarks/infer.py [--batches 1 32 128] [--precisions bf16 fp32] [--out F]
"""

import tyro
from _comparison import Options, run

if __name__ == "__main__":
    run("infer", tyro.cli(Options))
