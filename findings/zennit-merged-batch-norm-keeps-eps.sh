#!/usr/bin/env bash
# zennit 0.5.1 (seen with PyTorch on Python 3.11, 2026-11-28); 1.0.0, which needs a newer Python, sets the eps to 0.
# SequentialMergeBatchNorm multiplies a batch normalisation into the convolution before it and makes the normalisation an
# identity: mean 0, variance 1, weight 1, bias 0. It leaves its eps, so that the "identity" still divides by sqrt(1 + eps): the
# network's output changes, and its relevance with it, once for each merged layer. With PyTorch's default, 1e-5, by a factor of
# 0.999995; here eps is 0.5, so that one can see it: 1 becomes 1/sqrt(1.5) by the network, 1/1.5 after merging.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q zennit==0.5.1
cat > "$work/see.py" <<'PYTHON'
import torch
from zennit.canonizers import SequentialMergeBatchNorm
layers = torch.nn.Conv2d(1, 1, 1, bias=False), torch.nn.BatchNorm2d(1, eps=0.5)
network = torch.nn.Sequential(*layers).double().eval()
network[0].weight.data[:] = 1
stamp = torch.ones(1, 1, 1, 1).double()
print(f"before {network(stamp).item():.6f}")
SequentialMergeBatchNorm().apply(network)
print(f"after {network(stamp).item():.6f}, eps {network[1].eps}")
PYTHON
"$work/venv/bin/python" "$work/see.py" > "$work/seen"
diff - "$work/seen" <<'EXPECTED' || { echo "this has changed"; exit 1; }
before 0.816497
after 0.666667, eps 0.5
EXPECTED
cat "$work/seen"
