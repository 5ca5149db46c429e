#!/usr/bin/env bash
# autolrp 0.2.0 (seen with PyTorch on Python 3.12, 2026-11-28)
# Before any rule, a unit's relevance is multiplied by |z| / (|z| + |b|), z being its sum without the bias, and the rule then
# goes without one. Of x (1, 1), w (3, -1), b -1, R 1 the inputs get (1, -1/3) by epsilon, where Eq. 3 (Bach et al. 2015, with
# the bias in z_j) has (3, -1); by zplus they get (2/3, 0), where
# the equation, which has no bias, gives (1, 0).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q autolrp==0.2.0
cat > "$work/see.py" <<'PYTHON'
import autolrp
import torch
unit = torch.nn.Linear(2, 1).double()
def relevance(rule, weights, bias):
    unit.weight.data[:], unit.bias.data[:] = torch.tensor(weights), bias
    x = autolrp.tensor(torch.ones(1, 2).double())
    unit(x)[0, 0].lrp(rule={**autolrp.BASE, "AddmmBackward": rule})
    return [round(v, 4) for v in x.relevance.flatten().tolist()]
print("epsilon", relevance("epsilon", [3.0, -1.0], -1.0))
print("zplus", relevance("zplus", [3.0, -1.0], -1.0))
PYTHON
"$work/venv/bin/python" "$work/see.py" > "$work/seen"
diff - "$work/seen" <<'EXPECTED' || { echo "this has changed"; exit 1; }
epsilon [1.0, -0.3333]
zplus [0.6667, 0.0]
EXPECTED
cat "$work/seen"
