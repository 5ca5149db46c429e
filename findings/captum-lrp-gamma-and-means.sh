#!/usr/bin/env bash
# captum 0.9.0 (seen with PyTorch on Python 3.12, 2026-11-28)
# GammaRule adds gamma times the positive weights to the weights, but leaves the bias as it is, so that a positive bias takes
# less than its side of the sum: of x 1, w 1, b 1, gamma 1 and R 2 the input gets 4/3, where Montavon et al. (2019) have 1.
# And a mean of two branches (torch.stack(...).mean(0)) hands R / 2 to each without a word, whatever they gave: it is no
# module, so that no rule is attached to it. Of branches that gave 3 and 1 each gets 1, not 3/2 and 1/2.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q captum==0.9.0
cat > "$work/see.py" <<'PYTHON'
import warnings
import torch
from captum.attr import LRP
from captum.attr._utils.lrp_rules import GammaRule
warnings.simplefilter("ignore")
unit = torch.nn.Linear(1, 1).double()
unit.weight.data[:], unit.bias.data[:], unit.rule = 1, 1, GammaRule(gamma=1)
r = LRP(torch.nn.Sequential(unit)).attribute(torch.ones(1, 1).double(), target=0)  # R is the output, 2
print("gamma", [round(v, 6) for v in r.flatten().tolist()])
class Branches(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = (torch.nn.Linear(1, 1, bias=False).double() for _ in range(2))
        self.one.weight.data[:] = self.other.weight.data[:] = 1
    def forward(self, x):
        return torch.stack([self.one(x[:, :1]), self.other(x[:, 1:])]).mean(0)
r = LRP(Branches()).attribute(torch.tensor([[3.0, 1.0]]).double(), target=0)
print("mean", [round(v, 6) for v in r.flatten().tolist()])
PYTHON
"$work/venv/bin/python" "$work/see.py" > "$work/seen"
diff - "$work/seen" <<'EXPECTED' || { echo "this has changed"; exit 1; }
gamma [1.333333]
mean [1.0, 1.0]
EXPECTED
cat "$work/seen"
