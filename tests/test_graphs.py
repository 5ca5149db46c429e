"""Networks in ONNX: every operator against ONNX's own reference, every layer's account, PyTorch's scores and
zennit's maps, and files that are refused."""

from pathlib import Path

import numpy as np
import pytest

import rotinv
from rotinv.lrp import composites, ledger
from rotinv.lrp.ledger import LINES
from rotinv.nn.devices import get_kernels
from rotinv.system.errors import UserError

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402  (not where onnx is not there)

from rotinv.graphs.building import build_graph  # noqa: E402
from rotinv.graphs.reading import input_shape, read_onnx  # noqa: E402

HERE = Path(__file__).resolve().parent / "networks"
NETWORKS = ["plain", "lenet", "resnet", "cap", "deephits"]
CLOSES = 1e-12  # of the largest amount in a ledger


def model_of(nodes, shape, classes=3, opset=17, weights=None, **about):
    """A model of nodes from `x` (n, *shape) to `y` (n, classes), with float64 weights by name."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["n", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["n", classes])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **about)
    made.ir_version = 8
    return made


def saved(tmp_path, *arguments, **options):
    path = tmp_path / "net.onnx"
    path.write_bytes(model_of(*arguments, **options).SerializeToString())
    return path


def opened(path, shape):
    return build_graph(path, read_onnx(path), shape)


def network(name):
    """A network that PyTorch exported, its stamps, logits, and zennit's maps."""
    with np.load(HERE / f"{name.partition('_')[0]}.npz") as found:
        kept = dict(found)
    return opened(HERE / f"{name}.onnx", kept["stamps"].shape[1:]), kept


def entries_of(graph, trail):
    k = get_kernels("reference")
    return [ledger.entry(k, k, step, 1) for step in trail.steps]


def assert_accounted(graph, stamp, rule):
    """Each layer's ledger closes, and what all lines took is what the map lacks of the logit."""
    trail = graph.relevance(stamp, composites.named(rule))
    entries = entries_of(graph, trail)
    largest = max(float(abs(entry.received[0])) for entry in entries)
    assert largest > 0
    for entry in entries:
        assert abs(entry.closing_error[0]) <= CLOSES * largest, (rule, entry.layer)
    taken = sum(entry.lines[line][0] for entry in entries for line in LINES)
    left = trail.relevance[graph.output].sum() - taken
    assert trail.relevance[graph.input].sum() == pytest.approx(left, abs=10 * CLOSES * largest)


# ---- Networks that PyTorch exported ----


@pytest.mark.parametrize("name", [*NETWORKS, "resnet_normalised"])
def test_scores_are_pytorchs(name):
    graph, kept = network(name)
    for stamp, expected in zip(kept["stamps"], kept["logits"], strict=True):
        np.testing.assert_allclose(graph.logits(stamp), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("rule", composites.COMPOSITES)
def test_every_unit_is_accounted_for(name, rule):
    graph, kept = network(name)
    assert_accounted(graph, kept["stamps"][0], rule)


@pytest.mark.parametrize("name", [*NETWORKS, "resnet_normalised"])
def test_maps_are_zennits(name):
    """Of tests/networks/make.py, which says what of zennit is not as the equations are."""
    graph, kept = network(name)
    rules = kept.keys() - {"stamps", "logits"}
    assert len(rules) >= 6
    for rule in rules:
        for stamp, expected in zip(kept["stamps"], kept[rule], strict=True):
            found = graph.relevance(stamp, composites.named(rule)).relevance[graph.input][0]
            np.testing.assert_allclose(
                found, expected, rtol=0, atol=1e-10 * abs(expected).max(), err_msg=rule
            )


def test_layers_are_named_as_table_one_names_them():
    graph, _ = network("cap")
    assert graph.names[:5] == ["input", "padding", "concatenation", "convolution 1", "max-pooling 1"]
    assert graph.names[-3:] == ["dense 1", "average pooling", "dense 2"]
    assert graph.ruled[:2] == ["convolution 1", "convolution 2"]
    normalised, _ = network("resnet_normalised")
    assert normalised.names == network("resnet")[0].names
    assert normalised.notes == ("6 BatchNormalizations folded into the layer before",)


# ---- A network of this package, as ONNX ----


def exported(network, params):
    """A network of convolutions, pooling and dense layers as a model, (n, h, w, c) as (n, c, h, w)."""
    nodes, weights, value = [], {}, "x"
    for i, (layer, p) in enumerate(zip(network.layers, network.views(params), strict=True)):
        made, out = [], f"v{i}"
        if layer.name == "convolution":
            weights |= {f"w{i}": p["w"].transpose(3, 2, 0, 1), f"b{i}": p["b"]}
            made.append(("Conv", [f"w{i}", f"b{i}"], {"pads": [layer.pad] * 4}))
        elif layer.name == "dense":
            weights |= {f"w{i}": p["w"], f"b{i}": p["b"]}
            made.append(("Gemm", [f"w{i}", f"b{i}"], {}))
        elif layer.name == "flatten":  # row by row, the channels last
            made += [("Transpose", [], {"perm": [0, 2, 3, 1]}), ("Flatten", [], {})]
        if getattr(layer, "slope", 1.0) != 1:
            made.append(("LeakyRelu", [], {"alpha": layer.slope}))
        if getattr(layer, "pool", 1) == 2:
            made.append(("MaxPool", [], {"kernel_shape": [2, 2], "strides": [2, 2]}))
        for j, (operator, more, about) in enumerate(made):
            name = out if j == len(made) - 1 else f"{out}_{j}"
            nodes.append(helper.make_node(operator, [value, *more], [name], **about))
            value = name
    nodes[-1].output[0] = "y"
    return nodes, weights


@pytest.mark.parametrize("rule", composites.COMPOSITES)
def test_the_same_network_has_the_same_maps_and_ledger(tmp_path, reference, rng, rule):
    """As rotinv's own pass: convolutions with padding, leaky rectifiers, max-pooling, dense layers."""
    from rotinv.nn.layers import Flatten
    from rotinv.nn.linear import Conv2d, Dense
    from rotinv.nn.network import Network

    layers = [Conv2d(4, 4, 1, 0.125, 2), Conv2d(5, 3, 1, 0.0), Flatten(), Dense(6, 0.125), Dense(3)]
    own = Network(layers, (9, 9, 2))
    params = own.initial("he", 0) + 0.1 * rng.normal(size=own.size)
    nodes, weights = exported(own, params)
    graph = opened(saved(tmp_path, nodes, (2, 9, 9), weights=weights), (2, 9, 9))
    stamp = rng.random((1, 9, 9, 2))
    logits, entries = ledger.ledger(reference, reference, own, params, stamp, composites.named(rule))
    trail = graph.relevance(stamp[0].transpose(2, 0, 1), composites.named(rule))
    np.testing.assert_allclose(trail.logits, logits, rtol=1e-13)
    found = {entry.layer: entry for entry in entries_of(graph, trail)}
    for entry in entries:
        if entry.layer == "flatten":
            continue
        of = entry.layer
        size = abs(entry.below).max()
        layer = found[of]
        for line in LINES[:-1]:
            assert layer.lines[line][0] == pytest.approx(entry.lines[line][0], rel=1e-9, abs=1e-12 * size)
        assert layer.passed[0] == pytest.approx(entry.passed[0], rel=1e-9)
    r = trail.relevance[graph.input][0].transpose(1, 2, 0)
    np.testing.assert_allclose(r, entries[-1].below[0], rtol=0, atol=1e-12 * abs(r).max())


# ---- Operators, each against ONNX's own reference ----

W = np.random.default_rng(5)
CONV = W.normal(size=(6, 2, 3, 3))
CHANNELS = {name: W.uniform(0.5, 1.5, 4) for name in ("gain", "shift", "mean", "var")}
OPERATORS = {
    "Conv": ("Conv", ["w", "b"], {"group": 2, "pads": [1, 0, 2, 1]}, {"w": CONV, "b": W.normal(size=6)}),
    "Conv-strided": ("Conv", ["w"], {"group": 2, "strides": [2, 3], "dilations": [2, 1]}, {"w": CONV}),
    "Conv-same-upper": (
        "Conv",
        ["w"],
        {"group": 2, "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"w": CONV},
    ),
    "Conv-same-lower": (
        "Conv",
        ["w"],
        {"group": 2, "strides": [2, 2], "auto_pad": "SAME_LOWER"},
        {"w": CONV},
    ),
    "Conv-valid": ("Conv", ["w"], {"group": 2, "auto_pad": "VALID"}, {"w": CONV}),
    "MaxPool": ("MaxPool", [], {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}, {}),
    "MaxPool-ceil": ("MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, {}),
    "MaxPool-dilated": ("MaxPool", [], {"kernel_shape": [2, 2], "dilations": [2, 3]}, {}),
    "AveragePool": ("AveragePool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, {}),
    "AveragePool-padding": (
        "AveragePool",
        [],
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1},
        {},
    ),
    "AveragePool-ceil": ("AveragePool", [], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, {}),
    "GlobalAveragePool": ("GlobalAveragePool", [], {}, {}),
    "GlobalMaxPool": ("GlobalMaxPool", [], {}, {}),
    "ReduceMean": ("ReduceMean", [], {"axes": [-1, 1], "keepdims": 0}, {}),
    "ReduceSum": ("ReduceSum", ["axes"], {"keepdims": 1}, {"axes": np.array([2])}),
    "ReduceMax": ("ReduceMax", [], {"axes": [2, 3], "keepdims": 0}, {}),
    "BatchNormalization": (
        "BatchNormalization",
        ["gain", "shift", "mean", "var"],
        {"epsilon": 0.01},
        CHANNELS,
    ),
    "Relu": ("Relu", [], {}, {}),
    "LeakyRelu": ("LeakyRelu", [], {"alpha": 0.25}, {}),
    "Clip": ("Clip", ["low", "high"], {}, {"low": np.array(0.0), "high": np.array(0.5)}),
    "Add-constant": ("Add", ["w"], {}, {"w": W.normal(size=(4, 1, 1))}),
    "Sub-constant": ("Sub", ["w"], {}, {"w": W.normal(size=(4, 9, 9))}),
    "Mul-constant": ("Mul", ["w"], {}, {"w": W.normal(size=(4, 1, 1))}),
    "Div-constant": ("Div", ["w"], {}, {"w": np.array(-3.0)}),
    "Add-twice": ("Add", ["x"], {}, {}),
    "Pad": ("Pad", ["pads"], {}, {"pads": np.array([0, 0, 1, 2, 0, 0, 3, 0])}),
    "Pad-mirrored": ("Pad", ["pads"], {"mode": "reflect"}, {"pads": np.array([0, 0, 1, 2, 0, 0, 3, 0])}),
    "Concat": ("Concat", ["x"], {"axis": 1}, {}),
    "Slice": (
        "Slice",
        ["from", "to", "axes", "steps"],
        {},
        {"from": np.array([-1]), "to": np.array([-99]), "axes": np.array([3]), "steps": np.array([-2])},
    ),
    "Transpose": ("Transpose", [], {"perm": [0, 3, 1, 2]}, {}),
    "Gather": ("Gather", ["places"], {"axis": 2}, {"places": np.array([3, 0, 3])}),
    "DepthToSpace": ("DepthToSpace", [], {"blocksize": 2}, {}),
    "Identity": ("Identity", [], {}, {}),
    "Dropout": ("Dropout", [], {}, {}),
}


@pytest.mark.parametrize("case", OPERATORS)
def test_an_operator_is_onnxs(case, tmp_path, rng):
    """Its output, to rounding; and behind and before weights its ledger closes by every kind of rule."""
    operator, more, about, weights = OPERATORS[case]
    if "auto_pad" in about and onnx.__version__.startswith("1.16."):
        pytest.skip("onnx 1.16's own reference pads otherwise than its specification says")
    x = rng.normal(size=(1, 4, 9, 9))
    node = helper.make_node(operator, ["x", *more], ["m"], **about)
    feeds = {"x": x, **weights}
    (expected,) = onnx.reference.ReferenceEvaluator(node, opsets={"": 17}).run(None, feeds)[:1]
    units = expected[0].size
    nodes = [
        node,
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("MatMul", ["f", "last"], ["y"]),
    ]
    last = rng.normal(size=(units, 3))
    path = saved(tmp_path, nodes, (4, 9, 9), weights={**weights, "last": last})
    graph = opened(path, (4, 9, 9))
    np.testing.assert_allclose(graph.logits(x[0]), (expected.reshape(1, -1) @ last)[0], rtol=0, atol=1e-11)
    for rule in ("alpha2beta1", "epsilon", "gamma", "zplus", "flat", "wsquare", "zbox:low=-9,high=9"):
        assert_accounted(graph, x[0], rule)


def residual(weights=(), **sums):
    """x -> a convolution, beside which x is added, then flattened and multiplied."""
    return [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node(sums.get("operator", "Add"), ["c", "x"], ["s"]),
        helper.make_node("Flatten", ["s"], ["f"]),
        helper.make_node("MatMul", ["f", "last"], ["y"]),
    ]


@pytest.mark.parametrize("operator, sign", [("Add", 1), ("Sum", 1), ("Sub", -1)])
def test_a_sum_shares_by_contributions(tmp_path, rng, operator, sign):
    """By hand: each branch gets its part of the sum, to which a subtracted one contributes with its sign."""
    w, last, x = np.zeros((1, 1, 3, 3)), rng.normal(size=(4, 2)), rng.normal(size=(1, 2, 2))
    w[0, 0, 1, 1] = 3.0  # the convolution is three times its input
    weights = {"w": w, "last": last}
    path = saved(tmp_path, residual(operator=operator), (1, 2, 2), 2, weights=weights)
    graph = opened(path, (1, 2, 2))
    trail = graph.relevance(x, composites.named("zero"))
    r = trail.relevance[graph.values()["sum"]]
    branch = trail.relevance[graph.values()["convolution"]]
    np.testing.assert_allclose(branch, r * 3 / (3 + sign))
    np.testing.assert_allclose(trail.relevance[graph.input], r)
    equal = graph.relevance(x, composites.named("flat")).relevance
    np.testing.assert_allclose(equal[graph.values()["convolution"]], equal[graph.values()["sum"]] / 2)


def test_a_rule_for_a_sum_and_for_a_kind(tmp_path, rng):
    """Named ones are taken in place of Eq. 2; the stabiliser's line is then the sum's."""
    weights = {"w": rng.normal(size=(1, 1, 3, 3)), "last": rng.normal(size=(16, 2))}
    graph = opened(saved(tmp_path, residual(), (1, 4, 4), 2, weights=weights), (1, 4, 4))
    x = rng.normal(size=(1, 4, 4))
    for rule, layer in (
        ("zero; sum=epsilon:eps=0.5", "sum"),
        ("zero; convolution=epsilon:eps=0.5", "convolution"),
    ):
        found = {one.layer: one for one in entries_of(graph, graph.relevance(x, composites.named(rule)))}
        assert found.pop(layer).lines["stabiliser"][0] != 0
        assert not any(one.lines["stabiliser"][0] for one in found.values())
    with pytest.raises(UserError, match=r"layer 'dense 9' is not known.*convolution, sum, dense"):
        graph.relevance(x, composites.named("dense 9=flat"))


def test_a_softmax_at_the_end_is_left_out(tmp_path, rng):
    weights = {"w": rng.normal(size=(9, 3))}
    head = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["z"])]
    x = rng.normal(size=(1, 3, 3))
    for last in ("Softmax", "LogSoftmax", "Sigmoid"):
        path = saved(tmp_path, [*head, helper.make_node(last, ["z"], ["y"])], (1, 3, 3), weights=weights)
        graph = opened(path, (1, 3, 3))
        np.testing.assert_allclose(graph.logits(x), x.ravel() @ weights["w"])
        assert graph.notes == (f"{last} at the end left out: logits are explained",)


def test_constants_that_the_exporter_left_in_the_graph(tmp_path, rng):
    """Shape, Gather, Concat and the like, of a network that takes any number of stamps."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axis"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["y"]),
    ]
    weights = {"zero": np.array(0), "axis": np.array([0]), "rest": np.array([-1])}
    weights |= {"w": rng.normal(size=(18, 3)), "b": rng.normal(size=3)}
    graph = opened(saved(tmp_path, nodes, (2, 3, 3), weights=weights), (2, 3, 3))
    x = rng.normal(size=(2, 3, 3))
    np.testing.assert_allclose(graph.logits(x), x.ravel() @ weights["w"] + weights["b"])
    assert graph.names == ["input", "dense"] and graph.notes == ("1 Add folded into the layer before",)


def test_a_fixed_number_of_stamps(tmp_path, rng):
    """A network that was exported for four of them gives the same for one."""
    weights = {"w": rng.normal(size=(9, 3)), "to": np.array([4, 9])}
    nodes = [helper.make_node("Reshape", ["x", "to"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    made = model_of(nodes, (1, 3, 3), weights=weights)
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    (tmp_path / "net.onnx").write_bytes(made.SerializeToString())
    graph = opened(tmp_path / "net.onnx", (1, 3, 3))
    x = rng.normal(size=(1, 3, 3))
    np.testing.assert_allclose(graph.logits(x), x.ravel() @ weights["w"])
    assert_accounted(graph, x, "zero")
    found = graph.relevance(x, composites.named("zero")).relevance[graph.input]
    np.testing.assert_allclose(found[0].ravel(), x.ravel() * weights["w"][:, graph.logits(x).argmax()])
    assert not found[1:].any()


def test_padding_as_it_was_before_opset_11(tmp_path, rng):
    pads = {"pads": [0, 0, 1, 0, 0, 0, 0, 2], "mode": "constant", "value": 0.0}
    nodes = [
        helper.make_node("Pad", ["x"], ["p"], **pads),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    x, w = rng.normal(size=(1, 3, 3)), rng.normal(size=(20, 3))
    graph = opened(saved(tmp_path, nodes, (1, 3, 3), opset=9, weights={"w": w}), (1, 3, 3))
    padded = np.pad(x, [(0, 0), (1, 0), (0, 2)])
    np.testing.assert_allclose(graph.logits(x), padded.ravel() @ w)
    assert_accounted(graph, x, "flat")


def test_a_scaling_without_a_bias_hands_everything_down(tmp_path, rng):
    """As a division by 255 does, also by rules that double a unit with one side; a bias takes its part."""
    w = rng.normal(size=(9, 3))
    tail = [helper.make_node("Flatten", ["s"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    x = rng.normal(size=(1, 3, 3))
    for operator, constant, takes in (("Div", 255.0, False), ("Add", 0.5, True)):
        nodes = [helper.make_node(operator, ["x", "c"], ["s"]), *tail]
        weights = {"c": np.array(constant), "w": w}
        graph = opened(saved(tmp_path, nodes, (1, 3, 3), weights=weights), (1, 3, 3))
        entry = entries_of(graph, graph.relevance(x, composites.named("alpha2beta1")))[-1]
        assert entry.layer == "scaling"
        assert (entry.lines["bias_positive"][0] != 0) == takes
        assert takes or entry.passed[0] == pytest.approx(entry.received[0])


# ---- What is refused ----


def refusal(path, shape=(2, 4, 4)):
    with pytest.raises(UserError) as caught:
        opened(path, shape)
    text = str(caught.value)
    assert "\n" not in text and path.name in text
    return text


def chain(*operators, weights=None):
    """Nodes (operator, further inputs, attributes) in a row from x to y."""
    nodes, value = [], "x"
    for i, (operator, more, about) in enumerate(operators):
        name = "y" if i == len(operators) - 1 else f"v{i}"
        nodes.append(helper.make_node(operator, [value, *more], [name], name=f"/{operator.lower()}", **about))
        value = name
    return nodes


def test_files_that_are_no_networks(tmp_path):
    path = tmp_path / "net.onnx"
    assert "no such file" in refusal(path)
    for content in (b"", b"not a network at all\n", bytes(range(256)) * 20):
        path.write_bytes(content)
        assert "no ONNX file" in refusal(path)
    whole = (HERE / "plain.onnx").read_bytes()
    for length in (len(whole) // 3, len(whole) - 7):
        path.write_bytes(whole[:length])
        refusal(path)
    path.unlink()
    path.mkdir()
    assert "is not a file" in refusal(path)


def test_damaged_bytes_are_told_or_harmless(tmp_path, rng):
    """A byte that is changed is refused in one line, or changes numbers only."""
    whole = (HERE / "lenet.onnx").read_bytes()
    path = tmp_path / "net.onnx"
    for place in rng.integers(0, len(whole), 60):
        path.write_bytes(whole[:place] + bytes([int(rng.integers(256))]) + whole[place + 1 :])
        try:
            opened(path, (1, 16, 16)).logits(np.zeros((1, 16, 16)))
        except UserError as error:
            assert "\n" not in str(error) and "net.onnx" in str(error)


@pytest.mark.parametrize(
    "nodes, words",
    [
        (chain(("Erf", [], {})), ["/erf", "Erf", "no relevance pass", "Conv"]),
        (chain(("Mul", ["x"], {})), ["/mul", "product of two parts"]),
        (chain(("Softmax", [], {}), ("Flatten", [], {})), ["/softmax", "at the end"]),
        (chain(("MaxPool", [], {"kernel_shape": [9, 9]})), ["/maxpool", "do not fit"]),
        (chain(("QuantizeLinear", ["one"], {})), ["/quantizelinear", "quantised", "floating-point"]),
        (chain(("Relu", [], {})), ["output", "(1, 2, 4, 4)", "(n, classes)"]),
        (chain(("Cast", [], {"to": TensorProto.INT32})), ["/cast", "rounds"]),
    ],
)  # fmt: skip
def test_nodes_that_are_refused_are_named(nodes, words, tmp_path):
    text = refusal(saved(tmp_path, nodes, (2, 4, 4), weights={"one": np.array(1.0, np.float32)}))
    assert all(word in text for word in words), text


def test_networks_in_training_are_refused(tmp_path):
    flags = {"rate": np.array(0.5, np.float32), "train": np.array(True)}
    text = refusal(saved(tmp_path, chain(("Dropout", ["rate", "train"], {})), (2, 4, 4), weights=flags))
    assert "model.eval()" in text
    normal = [helper.make_node("BatchNormalization", ["x", *"abcd"], ["y", "m", "v"], training_mode=1)]
    weights = {name: np.ones(2) for name in "abcd"}
    assert "model.eval()" in refusal(saved(tmp_path, normal, (2, 4, 4), weights=weights))


def test_several_inputs_or_outputs_are_refused(tmp_path):
    made = model_of(chain(("Flatten", [], {})), (2, 4, 4))
    made.graph.output.append(helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["n", 2, 4, 4]))
    path = tmp_path / "net.onnx"
    path.write_bytes(made.SerializeToString())
    assert "outputs y, x" in refusal(path)
    made = model_of(chain(("Flatten", [], {})), (2, 4, 4))
    made.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.DOUBLE, ["n", 1]))
    path.write_bytes(made.SerializeToString())
    assert "inputs x, mask" in refusal(path)


@pytest.mark.parametrize("opset, word", [(6, "7 is the oldest"), (99, "pip install -U onnx")])
def test_versions_that_are_not_known(tmp_path, opset, word):
    assert word in refusal(saved(tmp_path, chain(("Flatten", [], {})), (2, 4, 4), opset=opset))


def external(tmp_path, location, data=b""):
    """A model whose weights are said to be in a file beside it."""
    made = model_of(
        chain(("Flatten", [], {}), ("MatMul", ["w"], {})), (2, 4, 4), weights={"w": np.ones((32, 3))}
    )
    (tensor,) = made.graph.initializer
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(size))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    folder = tmp_path / "models"
    folder.mkdir(exist_ok=True)
    (folder / "net.onnx").write_bytes(made.SerializeToString())
    return folder / "net.onnx"


def test_weights_beside_the_file(tmp_path):
    """As PyTorch writes them; not from outside the folder, and not cut off."""
    path = external(tmp_path, "net.onnx.data")
    assert "net.onnx.data, which is not there" in refusal(path)
    (path.parent / "net.onnx.data").write_bytes(np.full(96, 2.0).tobytes())
    np.testing.assert_allclose(opened(path, (2, 4, 4)).logits(np.ones((2, 4, 4))), 64.0)
    (path.parent / "net.onnx.data").write_bytes(np.full(95, 2.0).tobytes())
    refusal(path)
    secret = tmp_path / "secret"
    secret.write_bytes(np.full(96, 2.0).tobytes())
    for location in ("../secret", str(secret)):
        assert "outside its folder" in refusal(external(tmp_path, location))
    (path.parent / "link").symlink_to(secret)
    assert "outside its folder" in refusal(external(tmp_path, "link"))


def test_what_a_network_reads():
    assert input_shape("cap.onnx", read_onnx(HERE / "cap.onnx")) == (None, 2, 13, 13)


def test_without_onnx_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UserError, match=r"cap.onnx: needs onnx.*pip install 'rotinv\[onnx\]'"):
        read_onnx(HERE / "cap.onnx")


# ---- Channels last, and outputs of other shapes ----


def with_channels_last(tmp_path, rng, turn, channels):
    """A convolution of images (n, 6, 5, channels), divided by 4 and turned; and of images as they are."""
    w, last = rng.normal(size=(2, channels, 3, 3)), rng.normal(size=(24, 3))
    weights = {"w": w, "b": rng.normal(size=2), "last": last, "by": np.array(4.0)}
    tail = [
        helper.make_node("Conv", ["t", "w", "b"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("MatMul", ["f", "last"], ["y"]),
    ]
    weights["to"] = np.array([-1, channels, 6, 5])
    how = {"perm": [0, 3, 1, 2]} if turn == "Transpose" else {}
    names = ["d"] if turn == "Transpose" else ["d", "to"]
    head = [helper.make_node("Div", ["x", "by"], ["d"]), helper.make_node(turn, names, ["t"], **how)]
    model = model_of([*head, *tail], (6, 5, channels), weights=weights)
    plain = model_of([helper.make_node("Div", ["x", "by"], ["t"]), *tail], (channels, 6, 5), weights=weights)
    paths = tmp_path / "last.onnx", tmp_path / "first.onnx"
    for path, made in zip(paths, (model, plain), strict=True):
        path.write_bytes(made.SerializeToString())
    return paths


@pytest.mark.parametrize("turn, channels", [("Transpose", 3), ("Transpose", 1), ("Reshape", 1)])
def test_a_network_that_reads_channels_last(tmp_path, rng, turn, channels):
    """As Keras exports it: its rows are rows and its channels channels, in either order of the stamps."""
    last, first = map(rotinv.load_onnx, with_channels_last(tmp_path, rng, turn, channels))
    x = rng.random((2, 6, 5, channels))
    for stamps in (x, x.transpose(0, 3, 1, 2)):
        np.testing.assert_array_equal(last.logits(stamps), first.logits(stamps))
        found, expected = (net.explain(stamps, rule="epsilon") for net in (last, first))
        assert found.average.shape == x.shape
        np.testing.assert_array_equal(found.average, expected.average)
    with pytest.raises(UserError, match=rf"wanted is \(N, {channels}, 6, 5\) or \(N, 6, 5, {channels}\)"):
        last.logits(x[:, :, :4])


def test_a_turn_that_is_not_of_channels_last(tmp_path, rng):
    """Axes that are turned otherwise, and images that are read without a turn as well, stay as they are."""
    weights = {"w": rng.normal(size=(120, 3))}
    flat = [helper.make_node("Flatten", ["t"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    for head in (
        [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1])],
        [
            helper.make_node("Transpose", ["x"], ["a"], perm=[0, 3, 1, 2]),
            helper.make_node("Reshape", ["a", "shape"], ["b"]),
            helper.make_node("Add", ["b", "x"], ["s"]),
            helper.make_node("Flatten", ["s"], ["t"]),
        ],
    ):
        nodes = {**weights, "shape": np.array([-1, 4, 6, 5])}
        net = rotinv.load_onnx(saved(tmp_path, [*head, *flat], (4, 6, 5), weights=nodes))
        assert net.explain(rng.random((1, 4, 6, 5)), rule="zero").average.shape == (1, 6, 5, 4)


@pytest.mark.parametrize("link", ["", "Sigmoid", "Softmax"])
@pytest.mark.parametrize("tail, classes", [("Squeeze", 1), ("maps", 3), ("Flatten", 3)])
def test_outputs_of_other_shapes(tmp_path, rng, link, tail, classes):
    """One logit as (n,), as x.squeeze(1) gives it, and maps of one pixel, (n, classes, 1, 1)."""
    w = rng.normal(size=(classes, 2, 4, 4))
    nodes = [helper.make_node("Conv", ["x", "w"], ["z"])]
    if link:
        nodes.append(helper.make_node(link, ["z"], ["p"], **({"axis": 1} if link == "Softmax" else {})))
    given = "p" if link else "z"
    if tail == "Squeeze":
        nodes.append(helper.make_node("Squeeze", [given, "axes"], ["y"]))
    else:
        nodes.append(helper.make_node("Identity" if tail == "maps" else "Flatten", [given], ["y"]))
    path = saved(tmp_path, nodes, (2, 4, 4), weights={"w": w, "axes": np.array([1, 2, 3])})
    net = rotinv.load_onnx(path)
    x = rng.random((3, 2, 4, 4))
    expected = np.einsum("nchw,ochw->no", x, w)
    np.testing.assert_allclose(net.logits(x), expected, rtol=1e-12)
    maps = net.explain(x, rule="zero").average
    np.testing.assert_allclose(maps.sum(axis=(1, 2, 3)), expected.max(axis=1), rtol=1e-12)


def test_a_softmax_over_stamps_is_refused(tmp_path, rng):
    """Its probabilities would not be those that are told."""
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["y"], axis=0, name="soft"),
    ]
    path = saved(tmp_path, nodes, (1, 4, 4), weights={"w": rng.normal(size=(16, 3))})
    with pytest.raises(UserError, match=r"soft \(Softmax\): is over axis 0, not over the classes"):
        rotinv.load_onnx(path)


def test_an_output_of_maps_is_refused(tmp_path, rng):
    path = saved(tmp_path, [helper.make_node("Conv", ["x", "w"], ["y"])], (2, 4, 4),
                 weights={"w": rng.normal(size=(3, 2, 2, 2))})  # fmt: skip
    with pytest.raises(UserError, match=r"output has the shape \(1, 3, 3, 3\); wanted is \(n, classes\)"):
        rotinv.load_onnx(path)


def test_two_sigmoids_predict_the_larger(tmp_path, rng):
    """Two labels that may both hold: what is predicted, told and explained is the more probable one."""
    w = np.array([[3.0, 1.0], [0.0, 0.0]])
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["y"]),
    ]
    net = rotinv.load_onnx(saved(tmp_path, nodes, (1, 1, 2), classes=2, weights={"w": w}))
    found = net.audit(np.ones((1, 1, 1, 2)), rule="zero")
    assert found.predicted == 0 and found.entries[0].received[0] == 3
    assert found.probability == pytest.approx(1 / (1 + np.exp(-3))) and "p(predicted)" in str(found)
