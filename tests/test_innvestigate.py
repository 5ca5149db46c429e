"""The rules of LRP against iNNvestigate's own reference cases: 18 analysers, each on six networks of one
layer.

The cases are files of iNNvestigate's repository (tests/references/layer at its tag v2.1.2), which this
project does not hold. ROTINV_INNVESTIGATE names a folder that has them; elsewhere these tests are skipped.
In all of them biases are 0, and the largest output is explained.
"""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import assert_close

from rotinv.lrp.composites import Composite
from rotinv.lrp.relevance import descend
from rotinv.lrp.rules import AlphaBeta, Epsilon, Flat, WSquare, ZBox, ZPlus
from rotinv.nn.layers import AveragePool2d, Flatten, MaxPool2d
from rotinv.nn.linear import Conv2d
from rotinv.nn.network import Network

# The rule of each analyser's file; a preset has one for convolutions and one for dense layers. The flat
# presets give the flat rule to the first layer, which is the only one here.
RULES = {
    "LRPZ": Epsilon(0.0),
    "LRPZIgnoreBias": Epsilon(0.0),
    "LRPZ_Flat_input_layer_rule": Flat(),
    "LRPZ_boxed_input_layer_rule": ZBox(-10.0, 10.0),
    "LRPZPlus": ZPlus(),
    "LRPZPlusFast": ZPlus(),
    "LRPAlpha1Beta0": AlphaBeta(1.0, 0.0),
    "LRPAlpha1Beta0IgnoreBias": AlphaBeta(1.0, 0.0),
    "LRPAlpha2Beta1": AlphaBeta(2.0, 1.0),
    "LRPAlpha2Beta1IgnoreBias": AlphaBeta(2.0, 1.0),
    "LRPEpsilon": Epsilon(1e-7),
    "LRPEpsilonIgnoreBias": Epsilon(1e-7),
    "LRPFlat": Flat(),
    "LRPWSquare": WSquare(),
    "LRPSequentialPresetA": AlphaBeta(1.0, 0.0),
    "LRPSequentialPresetB": AlphaBeta(2.0, 1.0),
    "LRPSequentialPresetAFlat": Flat(),
    "LRPSequentialPresetBFlat": Flat(),
}
DENSE = {"LRPSequentialPresetA": Epsilon(0.1), "LRPSequentialPresetB": Epsilon(0.1)}
# iNNvestigate shares a mean in proportion to its inputs under every rule. By the equations of w² and flat,
# which do not look at inputs, rotinv shares it equally.
IN_PROPORTION = Epsilon(0.0)
LAYERS = {
    "Dense": Conv2d(5, 1),  # of Keras: on the channels of each pixel
    "Dense_relu": Conv2d(5, 1, slope=0.0),
    "Conv2D": Conv2d(5, 3),
    "Conv2D_relu": Conv2d(5, 3, slope=0.0),
    "AveragePooling2D": AveragePool2d(2),
    "MaxPooling2D": MaxPool2d(2),
}


@pytest.fixture
def cases():
    folder = Path(os.environ.get("ROTINV_INNVESTIGATE", ""))
    if not (folder / "LRPZ.hdf5").is_file():
        pytest.skip("ROTINV_INNVESTIGATE names no folder of iNNvestigate's reference cases")
    return folder


def rule_of(analyser, name):
    if name == "AveragePooling2D":
        return IN_PROPORTION
    return DENSE.get(analyser, RULES[analyser]) if name.startswith("Dense") else RULES[analyser]


def network_of(case, name):
    """The network of one layer, and its parameters in one row."""
    network = Network((LAYERS[name], Flatten()), (10, 10, 3))
    params = np.zeros(network.size)
    kept = [weights[()] for weights in case["weights"].values()]
    for (_, view), weights in zip(network.views(params)[0].items(), kept, strict=True):
        view[...] = weights.reshape(view.shape)
    return network, params


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("analyser", RULES)
def test_maps_are_innvestigates(k, cases, analyser, name):
    with h5py.File(cases / f"{analyser}.hdf5") as file:
        case, x = file[name], k.asarray(file["input"][()])
        network, params = network_of(case, name)
        output, expected = case["output"][()], case["attribution"][()]
    params = k.asarray(params)
    found = k.to_host(network.forward(k, params, x))
    assert_close(found.astype(np.float32), output)
    largest = output == output.max(axis=1, keepdims=True)
    seed = k.asarray(np.where(largest, output, 0))
    composite = Composite.everywhere(rule_of(analyser, name))
    *_, last = descend(k, network, params, x, composite, seed)
    assert_close(k.to_host(last.passed).astype(np.float32), expected)
