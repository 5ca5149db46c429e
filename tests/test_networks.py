"""Networks in ONNX by the programs audit, explain and view, and from Python."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from programs import assert_refused, call, make_run, run, toy_store

import rotinv
from rotinv.lrp import composites
from rotinv.system.errors import UserError

onnx = pytest.importorskip("onnx")

HERE = Path(__file__).resolve().parent / "networks"
NET = HERE / "resnet.onnx"


@pytest.fixture(scope="module")
def kept():
    with np.load(HERE / "resnet.npz") as found:
        return dict(found)


@pytest.fixture(scope="module")
def stamps(kept, tmp_path_factory):
    """The stamps as PyTorch has them, (n, c, h, w), with labels."""
    path = tmp_path_factory.mktemp("stamps") / "stamps.npz"
    np.savez(path, stamps=kept["stamps"], label=np.array([3, 0]))
    return path


def audited(*arguments):
    done = call("audit", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_audit_accounts_for_every_unit(kept, stamps):
    document = audited(NET, stamps, "--index", 0, 1, "--rule", "epsilon")
    for one, logits, r in zip(document["stamps"], kept["logits"], kept["epsilon"], strict=True):
        np.testing.assert_allclose(one["logits"], logits, rtol=1e-10)
        assert one["predicted"] == logits.argmax() and one["probability"] == pytest.approx(
            np.exp(logits.max()) / np.exp(logits).sum()
        )
        *layers, last = one["layers"]
        assert last["layer"] == "input"
        assert last["passed"] * one["output"] == pytest.approx(r.sum(), rel=1e-9)
        assert one["trust"]["share"] == pytest.approx(r.sum() / logits.max(), rel=1e-9)
        assert all(abs(row["closing_error"]) < 1e-12 for row in layers)
        lines = {"bias_positive", "bias_negative", "stabiliser", "one_sided", "dead", "crop", "rounding"}
        taken = sum(row[line] for row in layers for line in lines)
        assert layers[0]["received"] - taken == pytest.approx(last["passed"], abs=1e-12)
    assert [one["label"] for one in document["stamps"]] == [3, 0]


def test_a_split_together_and_its_limit(stamps):
    assert audited(NET, stamps)["count"] == 2
    strict = call("audit", NET, stamps, "--fail-above", 0.01)
    assert strict.returncode == 1


def test_explain_writes_zennits_maps_and_draws_them(kept, stamps, tmp_path):
    maps, picture = tmp_path / "maps.h5", tmp_path / "page.png"
    done = run("explain", NET, stamps, "--index", 0, 1, "--rule", "gamma", "--maps", maps)
    assert done.returncode == 0, done.stderr
    assert "the map holds" in done.stdout and "p(predicted)" in done.stdout and "class " in done.stdout
    with h5py.File(maps) as file:
        found = file["models/resnet/maps"][()]
    assert found.shape == (2, 1, 16, 16, 3)
    expected = kept["gamma"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found[:, 0], expected, rtol=0, atol=1e-10 * abs(expected).max())
    pytest.importorskip("matplotlib")
    done = call("explain", NET, stamps, "--index", 1, "--layer", "convolution 2", "--out", picture)
    assert done.returncode == 0 and picture.read_bytes().startswith(b"\x89PNG")


def test_a_page_has_every_layer(stamps, tmp_path):
    page = tmp_path / "page.html"
    done = call("view", NET, HERE / "resnet_normalised.onnx", stamps, "--target", 2, "--out", page)
    assert done.returncode == 0, done.stderr
    (text,) = re.findall(r'<script type="application/json">(.*?)</script>', page.read_text(), re.DOTALL)
    document = json.loads(text)
    assert document["models"] == ["resnet", "resnet_normalised"]
    answer = document["answers"][0][1][0]
    assert [layer["name"] for layer in answer["layers"]][:2] == ["stamps", "convolution 1"]
    assert answer["ledger"][-1][0] == "input" and "the map holds" in answer["trust"]
    assert "class 2" in document["rules"][0]["text"]


def test_what_was_done_to_the_network_is_told(stamps):
    done = run("audit", HERE / "resnet_normalised.onnx", stamps, "--index", 0)
    assert done.returncode == 0
    assert "resnet_normalised: 6 BatchNormalizations folded into the layer before" in done.stderr


def test_a_target_is_another_class(stamps, kept):
    (one,) = audited(NET, stamps, "--index", 0, "--target", 1)["stamps"]
    assert one["output"] == pytest.approx(abs(kept["logits"][0, 1]))
    assert_refused(call("audit", NET, stamps, "--index", 0, "--target", 4), "target 4", "0, 1, 2, 3")


def named(tmp_path, stamps, **metadata):
    model = onnx.load(NET)
    onnx.helper.set_model_props(model, metadata)
    path = tmp_path / "named.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    "metadata",
    [
        {"classes": "cat,dog,owl,fox"},
        {"names": "{0: 'cat', 1: 'dog', 2: 'owl', 3: 'fox'}"},
        {"labels": '["cat", "dog", "owl", "fox"]', "classes": "too,few"},
    ],
)
def test_classes_have_the_names_in_the_file(stamps, tmp_path, metadata):
    path = named(tmp_path, stamps, **metadata)
    done = call("audit", path, stamps, "--index", 0, "--target", "owl")
    assert done.returncode == 0, done.stderr
    assert "labelled fox" in done.stdout
    assert (
        done.stdout.split("100% is")[1]
        == call("audit", NET, stamps, "--index", 0, "--target", 2).stdout.split("100% is")[1]
    )


def test_images_are_read_in_either_order(kept, tmp_path):
    last = tmp_path / "last.npy"
    np.save(last, kept["stamps"].transpose(0, 2, 3, 1))
    first = tmp_path / "first.npy"
    np.save(first, kept["stamps"])
    assert audited(NET, last, "--index", 1)["stamps"] == audited(NET, first, "--index", 1)["stamps"]


def test_stamps_that_do_not_fit(kept, stamps, tmp_path):
    def refused(array, *words, name="x.npy"):
        np.save(tmp_path / name, array)
        assert_refused(call("audit", NET, tmp_path / name, "--index", 0), name, *words)

    refused(kept["stamps"][:, :2], "(2, 2, 16, 16)", "(N, 3, 16, 16) or (N, 16, 16, 3)")
    refused(kept["stamps"][..., :15], "(2, 3, 16, 15)")
    refused(kept["stamps"][0], "(3, 16, 16)")
    refused(np.where(kept["stamps"] > 0.99, np.nan, kept["stamps"]), "stamp 0", "NaN")
    refused(np.array(["a"]), "<U1")
    refused(kept["stamps"][:0], "no stamps")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    assert_refused(call("audit", NET, tmp_path / "objects.npy"), "objects.npy", "pickle")
    np.savez(tmp_path / "labels.npz", stamps=kept["stamps"], label=[4, 0])
    assert_refused(call("audit", NET, tmp_path / "labels.npz"), "label 4", "4 classes")


def test_whole_numbers_are_taken_as_they_are_and_told(kept, tmp_path):
    whole = np.rint(255 * kept["stamps"]).astype(np.uint8)
    np.save(tmp_path / "whole.npy", whole)
    done = run("audit", NET, tmp_path / "whole.npy", "--index", 0, "--json")
    assert "whole numbers (uint8)" in done.stderr
    expected = rotinv.load_onnx(NET).logits(whole[:1].astype(float))
    np.testing.assert_allclose(json.loads(done.stdout)["stamps"][0]["logits"], expected[0])


def test_a_stamp_store_is_read(tmp_path):
    """Its raw pixels, not scaled: of a network of one channel and 13 pixels."""
    from onnx import TensorProto, helper, numpy_helper

    w = np.random.default_rng(0).normal(size=(169, 2))
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [1, 1, 13, 13])], [value("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(w.astype(np.float32), "w")],
    )  # fmt: skip
    onnx.save(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]),
        tmp_path / "n.onnx",
    )
    store = toy_store(tmp_path)
    document = audited(tmp_path / "n.onnx", store, "--index", 2, "--split", "train")
    split = rotinv.open_stamps(store, "train")
    expected = split.raw(np.array([2]))[0, ..., 0].ravel().astype(float) @ w.astype(np.float32).astype(float)
    np.testing.assert_allclose(document["stamps"][0]["logits"], expected)
    assert document["stamps"][0]["label"] == split.label[2]


def test_what_is_refused(stamps, tmp_path):
    assert_refused(call("explain", NET, stamps, "--index", 0, "--method", "guided"), "resnet.onnx", "lrp")
    assert_refused(call("explain", NET, stamps, "--index", 0, "--layer", "conv 9"), "conv 9", "convolution 1")
    assert_refused(call("audit", NET, stamps, "--index", 0, "--exact"), "--exact")
    assert_refused(call("audit", NET, stamps, "--index", 0, "--device", "cuda"), "float64", "--device")
    assert_refused(call("audit", NET, stamps, "--index", 0, "--rule", "sun=flat"), "sun", "average pooling")
    assert_refused(call("audit", NET, stamps, "--index", 2), "no stamp 2")
    run_folder = make_run(tmp_path / "run")
    assert_refused(
        call("view", NET, run_folder, stamps, "--out", tmp_path / "p.html"), "networks of one kind"
    )
    assert_refused(call("view", NET, HERE / "cap.onnx", stamps, "--out", tmp_path / "p.html"), "cap.onnx")
    options = "--index", 0, "--compare", HERE / "resnet_normalised.onnx"
    done = call("explain", NET, stamps, "--disagreements", *options[2:])
    assert_refused(done, "--disagreements", "trained runs")
    assert call("explain", NET, stamps, *options).returncode == 0
    assert_refused(run("audit", tmp_path / "none.onnx", stamps), "none.onnx", "no such file")


def test_bounds_of_pixels_are_those_of_the_stamps(kept, tmp_path):
    np.save(tmp_path / "x.npy", kept["stamps"] - 0.5)
    assert_refused(
        call("audit", NET, tmp_path / "x.npy", "--index", 0, "--rule", "zbox"), "from 0 to 1", "low=-3"
    )
    done = call("audit", NET, tmp_path / "x.npy", "--index", 0, "--rule", "zbox:low=-0.5,high=0.5")
    assert done.returncode == 0, done.stderr


def test_from_python(kept):
    net = rotinv.load_onnx(NET)
    np.testing.assert_allclose(net.logits(kept["stamps"]), kept["logits"], rtol=1e-10)
    found = net.explain(kept["stamps"], rule="epsilon")
    expected = kept["epsilon"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found.average, expected, rtol=0, atol=1e-10 * abs(expected).max())
    audit = net.audit(kept["stamps"][1], rule="epsilon")
    assert found.trust(1) == audit.trust and not list(audit.not_closed())
    at_layer = net.explain(kept["stamps"], layer="convolution 2").answers[0]
    assert at_layer.maps.shape == (2, 1, 16, 16, 6)
    assert "convolution 2" in net.layers and "2,402" in repr(net)
    with pytest.raises(UserError, match="one stamp, not of 2"):
        net.audit(kept["stamps"])
    with pytest.raises(UserError, match=r"wanted is \(N, 3, 16, 16\)"):
        net.logits(kept["stamps"][:, :1])


def test_rules_by_layer_and_by_kind(kept):
    """A composite by kinds is the same as each layer's own rule."""
    net = rotinv.load_onnx(NET)
    convolutions = [name for name in net.layers if name.startswith("convolution")]
    one = "; ".join(f"{name}=gamma" for name in convolutions) + "; dense=epsilon"
    together = net.explain(kept["stamps"], rule="convolution=gamma; dense=epsilon").maps
    np.testing.assert_array_equal(net.explain(kept["stamps"], rule=one).maps, together)
    first = net.explain(kept["stamps"], rule="epsilon-gamma-box").maps
    by_hand = "gamma; convolution 1=zbox; dense=epsilon"
    np.testing.assert_array_equal(net.explain(kept["stamps"], rule=by_hand).maps, first)
    assert composites.named("dense=epsilon").own("dense 3") == composites.named("epsilon").dense


# ---- What rotinv itself exports ----


def in_single_precision(views):
    """Weights as training leaves them, and as an export keeps them."""
    for arrays in views:
        for array in arrays.values():
            array[...] = np.float32(array)


@pytest.mark.parametrize(
    "arch, size, crop, tolerance",
    [
        ("cap-mini", 13, None, 1e-10),
        ("cap", 13, 13, 1e-10),
        ("deephits", 21, None, 1e-6),  # ONNX keeps the slope, 0.01, in single precision
    ],
)
def test_a_run_that_is_exported_has_the_maps_of_the_run(tmp_path, arch, size, crop, tolerance):
    """Those of its own reference; the pixels are scaled, and cut, within the graph."""
    folder = make_run(tmp_path / "run", arch, size=size, crop=crop, change=in_single_precision)
    stamps = tmp_path / "stamps.npy"
    side = size + (8 if crop else 0)
    np.save(stamps, np.random.default_rng(0).normal(100, 5, (2, side, side, 1)).astype(np.float32))
    done = call("export", folder, "--format", "onnx", "--out", tmp_path / "net.onnx")
    assert done.returncode == 0, done.stderr
    for rule in ("alpha2beta1", "epsilon:eps=0.01", "epsilon-gamma-box", "wsquare"):
        own, other = tmp_path / f"own-{rule}.h5", tmp_path / f"other-{rule}.h5"
        options = "--index", 0, 1, "--rule", rule, "--device", "reference"
        assert call("explain", folder, stamps, *options, "--layer", "input", "--maps", own).returncode == 0
        done = call("explain", tmp_path / "net.onnx", stamps, *options, "--maps", other)
        assert done.returncode == 0, done.stderr
        with h5py.File(own) as one, h5py.File(other) as two:
            expected, found = one["models/run/maps"][()], two["models/net/maps"][()]
            logits = one["models/run/logits"][()]
            np.testing.assert_allclose(two["models/net/logits"], logits, rtol=0, atol=tolerance)
            assert two["models/net"].attrs["channels"].tolist() == ["difference"]
        limit = tolerance * abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=limit, err_msg=rule)
    told = call("audit", tmp_path / "net.onnx", stamps, "--index", 0).stdout
    assert "p(candidate)" in told


def test_values_that_are_not_there(stamps, tmp_path):
    path = named(tmp_path, stamps, audit_from="nowhere")
    assert_refused(call("audit", path, stamps), "named.onnx", "audit_from 'nowhere'", "no such value")
