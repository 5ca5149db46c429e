#!/usr/bin/env bash
# zennit 0.5.1 (seen with PyTorch 2 on Python 3.11, 2026-11-28); 1.0.0 does not do it any more.
# SequentialMergeBatchNorm multiplies a batch normalisation into the convolution before it and makes the normalisation an
# identity: mean 0, variance 1, weight 1, bias 0. It leaves its eps, so that the "identity" still divides by sqrt(1 + eps): the
# network's output changes, and its relevance with it, once for each merged layer. With PyTorch's default, 1e-5, a factor of
# 0.999995 a layer; here eps is 0.5, so that one can see it: 1 becomes 1/sqrt(1.5) by the network, 1/1.5 after merging.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q zennit==0.5.1
cat > "$work/see.py" <<'PYTHON'
from importlib.metadata import version
import torch
from zennit.canonizers import SequentialMergeBatchNorm
layers = torch.nn.Conv2d(1, 1, 1, bias=False), torch.nn.BatchNorm2d(1, eps=0.5)
network = torch.nn.Sequential(*layers).double().eval()
network[0].weight.data[:] = 1
stamp = torch.ones(1, 1, 1, 1).double()
before = network(stamp).item()
SequentialMergeBatchNorm().apply(network)
print(version("zennit"), f"{before:.6f} {network(stamp).item():.6f}, eps {network[1].eps}")
PYTHON
"$work/venv/bin/python" "$work/see.py" > "$work/seen"
"$work/venv/bin/pip" install -q --no-deps zennit==1.0.0
"$work/venv/bin/python" "$work/see.py" >> "$work/seen"
diff - "$work/seen" <<'EXPECTED' || { echo "this has changed"; exit 1; }
0.5.1 0.816497 0.666667, eps 0.5
1.0.0 0.816497 0.816497, eps 0.0
EXPECTED
cat "$work/seen"
