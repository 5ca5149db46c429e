"""Weights of other libraries' files become runs: which layer is which, and what is refused."""

import os
import pickle
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow_checkpoints
from programs import assert_refused, call, make_run

import rotinv
from rotinv.deploy import safetensors_files, torch_files, torch_module, weight_files
from rotinv.nn import architectures
from rotinv.nn.devices import get_kernels
from rotinv.runs import checkpoints
from rotinv.runs.folder import read_config
from rotinv.runs.model import load_model
from rotinv.runs.predictions import class_probabilities
from rotinv.stamps.pixels import prepare
from rotinv.system.errors import UserError

SIZE = ("--size", 13, "--channels", "difference")
LIKE = [f"conv{i}" for i in range(1, 6)] + [f"dense{i}" for i in range(1, 4)]


@pytest.fixture(scope="module")
def network():
    return architectures.build("cap", 13, 1)


@pytest.fixture(scope="module")
def params(network):
    """Weights of float32, with biases that differ, so that no two layers can be exchanged unseen."""
    rng = np.random.default_rng(3)
    return np.float64(np.float32(network.initial("he", 7) + rng.normal(0, 0.01, network.size)))


@pytest.fixture(scope="module")
def named(network, params):
    return {name: np.float32(array) for name, array in checkpoints.to_named(network, params).items()}


def imported(path, out, *options):
    done = call("import_weights", path, "--out", out, *SIZE, *options)
    assert done.returncode == 0, done.stderr
    return done, load_model(out).params


def renamed(named, layers, w, b, sep="/"):
    """The arrays under other names: those of the layers, and of weights and biases."""
    new = dict(zip(LIKE, layers, strict=True))
    return {
        f"{new[layer]}{sep}{w if kind == 'w' else b}": array
        for (layer, kind), array in ((name.split("/"), array) for name, array in named.items())
    }


KERAS = ["conv2d", *(f"conv2d_{i}" for i in range(1, 5)), "dense", "dense_1", "dense_2"]


def keras_2(path, named):
    """Keras 2: the order of the layers is an attribute, and so is that of a layer's weights."""
    arrays = renamed(named, KERAS, "kernel:0", "bias:0")
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [b"input_1", *map(str.encode, KERAS)]
        group.create_group("input_1").attrs["weight_names"] = np.zeros(0, "S1")
        for layer in KERAS:
            names = [f"{layer}/kernel:0", f"{layer}/bias:0"]
            group.create_group(layer).attrs["weight_names"] = [name.encode() for name in names]
            for name in names:
                group[layer][name] = arrays[name]
        file["optimizer_weights/Adam/conv2d/kernel/m:0"] = arrays["conv2d/kernel:0"]


def keras_3(path, named):
    with h5py.File(path, "w") as file:
        for name, array in renamed(named, KERAS, "0", "1").items():
            layer, number = name.split("/")
            file[f"layers/{layer}/vars/{number}"] = array
        file["optimizer/vars/2"] = named["conv4/w"]


def keras_archive(path, named):
    keras_3(path.with_suffix(".weights.h5"), named)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.write(path.with_suffix(".weights.h5"), "model.weights.h5")


def tensorflow(path, named):
    """As ALeRCE's: layers numbered twice, and what Adam keeps."""
    layers = ["net/conv_1_1", "net/conv_2_2", "net/conv_3_4", "net/conv_4_5", "net/conv_5_6", "net/dense_1_9",
              "net/dense_2_10", "net/logits"]  # fmt: skip
    arrays = renamed(named, layers, "kernel", "bias")
    arrays |= {f"{name}/Adam{more}": array * 0 for name, array in arrays.items() for more in ("", "_1")}
    arrays |= {"optimizer/beta1_power": np.float32(0.9), "step": np.int64(12)}
    tensorflow_checkpoints.write(path, arrays)


def pytorch(path, named, network, params):
    torch_module.write(path, torch_module.state_dict(network, params))


def torch_safetensors(path, named, network, params):
    """PyTorch's layouts; the file is ordered by name."""
    state = torch_module.state_dict(network, params)
    safetensors_files.write(path, {name: state[name] for name in sorted(state)}, {})


@pytest.mark.parametrize(
    "name, make",
    [("k2.h5", keras_2), ("k3.weights.h5", keras_3), ("k3.keras", keras_archive), ("tf.index", tensorflow)],
)
def test_files_with_channels_last(tmp_path, name, make, named, params):
    make(tmp_path / name, named)
    done, found = imported(tmp_path / name, tmp_path / "run")
    np.testing.assert_array_equal(found, params)
    lines = [line.split("<-") for line in done.stdout.splitlines() if "<-" in line]
    assert [line[0].strip() for line in lines] == LIKE
    assert "by shape" in done.stdout and "flattened as hwc" in done.stdout


@pytest.mark.parametrize("name, make", [("net.pt", pytorch), ("net.safetensors", torch_safetensors)])
def test_files_with_channels_first(tmp_path, name, make, named, network, params):
    make(tmp_path / name, named, network, params)
    done, found = imported(tmp_path / name, tmp_path / "run")
    np.testing.assert_array_equal(found, params)
    assert "flattened as chw" in done.stdout


def test_maps_that_were_flattened_otherwise(tmp_path, network, params):
    """A PyTorch network may turn its maps before it flattens them."""
    state = torch_module.state_dict(network, params)
    state["dense1.weight"] = np.float32(network.views(params)[8]["w"].T)
    torch_module.write(tmp_path / "net.pt", state)
    _, found = imported(tmp_path / "net.pt", tmp_path / "run", "--flatten", "hwc")
    np.testing.assert_array_equal(found, params)


def test_names_that_tell_no_order_are_refused_and_mapped(tmp_path, named, params):
    layers = ["a", "b", "c", "first", "second", "x", "y", "z"]
    safetensors_files.write(tmp_path / "n.safetensors", renamed(named, layers, "w", "b"), {})
    done = call("import_weights", tmp_path / "n.safetensors", "--out", tmp_path / "no", *SIZE)
    assert_refused(done, "conv4 and conv5", "first, second", "--map conv4=first")
    assert not (tmp_path / "no").exists()
    done, found = imported(
        tmp_path / "n.safetensors", tmp_path / "run", "--map", "conv4=first", "--map", "conv5=second"
    )
    np.testing.assert_array_equal(found, params)
    assert "(3 x 3 x 64 x 64, by --map)" in done.stdout
    wrong = call(
        "import_weights", tmp_path / "n.safetensors", "--out", tmp_path / "no", *SIZE, "--map", "conv4=third"
    )
    assert_refused(wrong, "conv4=third")


def test_an_order_that_contradicts_the_numbers_is_refused(tmp_path, network, params):
    state = torch_module.state_dict(network, params)
    odd = {name.replace("conv4", "convX").replace("conv5", "conv4").replace("convX", "conv5"): a
           for name, a in state.items()}  # fmt: skip
    torch_module.write(tmp_path / "net.pt", odd)
    assert_refused(
        call("import_weights", tmp_path / "net.pt", "--out", tmp_path / "no", *SIZE), "numbers", "--map"
    )


@pytest.mark.parametrize(
    "options, words",
    [
        (("--arch", "deephits"), ["dense1", "--arch"]),
        (("--size", 21), ["dense1", "--size"]),
        (("--channels", "a,b"), ["conv1", "--channels"]),
        (("--classes", "a,b,c", "--candidate", "b"), ["dense3"]),
    ],
)
def test_networks_of_other_shapes_are_refused(tmp_path, named, options, words):
    keras_3(tmp_path / "k.h5", named)
    assert_refused(
        call("import_weights", tmp_path / "k.h5", "--out", tmp_path / "no", *SIZE, *options), *words
    )
    assert not (tmp_path / "no").exists()


def test_a_layer_too_many_is_refused(tmp_path, named):
    more = {
        **renamed(named, LIKE, "w", "b"),
        "norm/w": np.ones((3, 3), np.float32),
        "norm/b": np.ones(3, np.float32),
    }
    safetensors_files.write(tmp_path / "n.safetensors", more, {})
    done = call("import_weights", tmp_path / "n.safetensors", "--out", tmp_path / "no", *SIZE)
    assert_refused(done, "norm belongs to no layer")


def test_a_batch_normalisation_is_refused(tmp_path, network, params):
    """Without it the network would be another one."""
    state = torch_module.state_dict(network, params)
    state |= {f"norm1.{name}": np.ones(32, np.float32) for name in ("weight", "bias", "running_mean")}
    torch_module.write(tmp_path / "net.pt", state)
    done = call("import_weights", tmp_path / "net.pt", "--out", tmp_path / "no", *SIZE)
    assert_refused(done, "norm1.weight (32)", "batch normalisation")
    assert not (tmp_path / "no").exists()


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """An ONNX graph of a CAP that says nothing of itself, as those of other libraries; and the weights."""
    onnx = pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("graph")
    run = make_run(folder / "run", "cap", channels=("difference",))
    assert call("export", run, "--format", "onnx", "--out", folder / "net.onnx").returncode == 0
    model = onnx.load(folder / "net.onnx")
    del model.metadata_props[:]
    return model, load_model(run).params


def test_a_graph_of_another_library_is_computed_for_a_check(tmp_path, graph):
    model, params = graph
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    _, found = imported(tmp_path / "net.onnx", tmp_path / "run")
    np.testing.assert_array_equal(found, np.float32(params))


@pytest.mark.parametrize("change", ["pooling", "activation", "scaling"])
def test_a_graph_with_other_steps_between_its_layers_is_refused(tmp_path, graph, change):
    onnx = pytest.importorskip("onnx")
    model = onnx.ModelProto()
    model.CopyFrom(graph[0])
    nodes = {
        kind: [one for one in model.graph.node if one.op_type == kind] for kind in ("MaxPool", "Relu", "Conv")
    }
    if change == "pooling":
        nodes["MaxPool"][0].op_type = "AveragePool"
    elif change == "activation":
        nodes["Relu"][0].op_type = "Elu"
    else:
        first = nodes["Conv"][0].input
        double = onnx.helper.make_node("Sum", [first[0], first[0]], ["double"])
        first[0] = "double"
        model.graph.node.insert(list(model.graph.node).index(nodes["Conv"][0]), double)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    done = call("import_weights", tmp_path / "net.onnx", "--out", tmp_path / "no", *SIZE)
    assert_refused(done, "net.onnx", "other steps")
    assert not (tmp_path / "no").exists()


def test_two_classes_in_the_other_order(tmp_path, named):
    """rotinv has the candidate second; p(candidate) stays that of the class of that name."""
    keras_3(tmp_path / "k.h5", named)
    imported(tmp_path / "k.h5", tmp_path / "as_is")
    imported(tmp_path / "k.h5", tmp_path / "turned", "--classes", "real,bogus", "--candidate", "real")
    stamps = np.random.default_rng(0).normal(size=(5, 13, 13, 1))
    one, other = (rotinv.load(tmp_path / name).predict_proba(stamps) for name in ("as_is", "turned"))
    np.testing.assert_allclose(other, one[:, ::-1], atol=1e-6)
    assert read_config(tmp_path / "turned").classes.names == ("bogus", "real")


# --- the paper's first author's network for ZTF -------------------------------------------------------------


def test_alerces_network_scores_and_is_audited(tmp_path, real_data):
    path = real_data / "alerce_cap_5class.h5"
    done = call("import_weights", path, "--out", tmp_path / "alerce", "--candidate", "SN")
    assert done.returncode == 0, done.stderr
    assert "channels science, template, difference; classes AGN, SN, VS, asteroid, bogus" in done.stdout
    with h5py.File(path) as file:
        stamps, expected = file["check/stamps"][()], file["check/probability"][()]
    found = rotinv.load(tmp_path / "alerce").predict_proba(stamps)
    assert np.abs(found - expected).max() <= 1e-5
    model = load_model(tmp_path / "alerce")
    k = get_kernels("reference")
    ready = prepare(stamps)[0]
    exact = class_probabilities(k, model.network, k.asarray(model.params), ready)
    assert np.abs(exact - expected).max() <= 1e-12
    np.savez(tmp_path / "stamps.npz", stamps=stamps[:6])
    for target in ("asteroid", "predicted"):
        audit = call("audit", tmp_path / "alerce", tmp_path / "stamps.npz", "--index", 0, "--target", target)
        assert audit.returncode == 0, audit.stderr
        assert "p(SN)" in audit.stdout and "the map holds" in audit.stdout
    explained = call(
        "explain", tmp_path / "alerce", tmp_path / "stamps.npz", "--index", 1, "--target", "bogus"
    )
    assert explained.returncode == 0 and "the logit of class bogus" in explained.stdout


# --- nothing in a file is run -------------------------------------------------------------------------------


class Hostile:
    """Unpickled, it makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def archive(path, data):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", data)


def test_a_pickle_is_not_run(tmp_path):
    archive(tmp_path / "net.pt", pickle.dumps({"a": Hostile(tmp_path / "ran")}, 2))
    done = call("import_weights", tmp_path / "net.pt", "--out", tmp_path / "no")
    assert_refused(done, "system", "nothing in it was run")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "data, word",
    [
        (b"\x80\x02}.", "no tensors"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "makes no tensor"),
        (b"\x80\x02K\x01Q.", "no storage"),
        (b"\x80\x02(", "breaks off"),
        (b"junk", "does not begin"),
    ],
)
def test_pickles_that_are_no_state_dict(tmp_path, data, word):
    archive(tmp_path / "net.pt", data)
    with pytest.raises(UserError, match=word):
        torch_files.read(tmp_path / "net.pt")


@pytest.mark.parametrize("name", ["net.pt", "n.safetensors", "tf.index", "k.h5", "k.keras", "x.onnx"])
def test_damaged_files_are_refused(tmp_path, name, named, network, params):
    """Cut short, or with bytes changed, each is refused in one line, or read as other weights."""
    path = tmp_path / name
    make = {
        "net.pt": lambda: pytorch(path, named, network, params),
        "n.safetensors": lambda: torch_safetensors(path, named, network, params),
        "tf.index": lambda: tensorflow(path, named),
        "k.h5": lambda: keras_3(path, named),
        "k.keras": lambda: keras_archive(path, named),
        "x.onnx": lambda: path.write_bytes(b"\x08\x07junk" * 40),
    }[name]
    if name == "x.onnx":
        pytest.importorskip("onnx")
    make()
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(30):
        data = bytearray(whole[: rng.integers(1, len(whole))] if rng.random() < 0.3 else whole)
        for place in rng.integers(0, min(len(data), 3000), 3):
            data[place] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(data))
        try:
            weight_files.read(path)
        except UserError as error:
            refused += 1
            assert "\n" not in str(error) and name in str(error)
    assert refused > 5


def test_a_tensorflow_checkpoint_with_a_changed_weight_is_refused(tmp_path, named):
    tensorflow(tmp_path / "tf.index", named)
    data = tmp_path / "tf.data-00000-of-00001"
    whole = bytearray(data.read_bytes())
    whole[len(whole) // 2] ^= 1
    data.write_bytes(bytes(whole))
    with pytest.raises(UserError, match="checksum"):
        weight_files.read(tmp_path / "tf.index")
    data.unlink()
    with pytest.raises(UserError, match="no such file"):
        weight_files.read(tmp_path / "tf.index")


def test_files_of_no_known_kind(tmp_path):
    (tmp_path / "x.ckpt").write_bytes(b"")
    assert_refused(
        call("import_weights", tmp_path / "x.ckpt", "--out", tmp_path / "no"), ".safetensors", ".index"
    )
    assert_refused(call("import_weights", tmp_path / "none.pt", "--out", tmp_path / "no"), "no such file")
