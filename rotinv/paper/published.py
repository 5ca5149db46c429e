"""The paper's own figures (Reyes et al. 2018, arXiv 1808.03626), to be put beside ours.

Shares are in percent where the paper has percent.
"""

NAMES = {  # of the architectures, as the paper writes them
    "deephits": "Deep-HiTS",
    "deephits-relu": "Deep-HiTS + ReLU",
    "cap": "CAP",
    "cape": "CAPE",
}

# Table I: the output sizes of all layers but dropout, from the input down; and the parameters of all.
_MAPS = ("21x21x4", "27x27x4", "27x27x4", *["24x24x32"] * 2, "12x12x32", *["12x12x64"] * 3, "6x6x64", "2304")
TABLE_1 = {
    "deephits": (*_MAPS, "9216", "64", "64", "2"),
    "deephits-relu": (*_MAPS, "9216", "64", "64", "2"),
    "cap": (*_MAPS, "64", "64", "64", "2"),  # the third is the mean over the rotations
}
PARAMETERS = {"deephits": 697_858, "cap": 255_490}

# Table II: mean and std of 6 trials of accuracy, precision, recall and F1, in percent.
TABLE_2 = {
    "deephits": ((99.45, 0.02), (99.37, 0.04), (99.55, 0.06), (99.45, 0.02)),
    "deephits-relu": ((99.47, 0.02), (99.44, 0.04), (99.52, 0.06), (99.47, 0.02)),
    "cap": ((99.52, 0.01), (99.45, 0.01), (99.61, 0.02), (99.52, 0.01)),
    "cape": ((99.53, 0.01), (99.45, 0.02), (99.63, 0.03), (99.53, 0.01)),
}
# Table II: p of Welch's t-test, in the same order.
WELCH = {
    ("deephits", "cap"): (2e-5, 4.2e-3, 6.6e-2, 2.2e-5),
    ("cap", "cape"): (1.8e-1, 8.9e-1, 2.4e-1, 1.8e-1),
}

# Fig. 2: FNR at FPR 1e-2.
FPR = 1e-2
FNR = {"deephits": 2.28e-3, "cape": 1.38e-3}

# Figs. 3 and 4: test stamps (of 100,000) that Deep-HiTS gets wrong and CAP right.
DISAGREEMENTS = 197

# Table III: mean, variance, skewness and kurtosis of sigma-bar, SNR difference, by class.
TABLE_3 = {
    ("artifact", "deephits"): (0.0729, 0.0014, 0.38, -1.34),
    ("artifact", "cap"): (0.0517, 0.001, 1.08, -0.28),
    ("candidate", "deephits"): (0.0655, 0.0007, 1.09, -0.28),
    ("candidate", "cap"): (0.0519, 0.0003, 1.62, 1.23),
}
EXPLAINED = 5000  # test stamps of Fig. 5 and Table III
