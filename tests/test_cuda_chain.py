"""Scoring depth first on the emulated GPU (kernels/cuda/chain.py)."""

from dataclasses import replace
from functools import partial

import h5py
import numpy as np
import pytest
from cuda_emulation.defects import BY_WARPS, EVERY
from cuda_emulation.device import ORDERS, EmulatedDevice, emulated
from cuda_emulation.seeded import noticed_by
from programs import assert_refused, call, make_run, toy_arrays
from test_cuda import CHAIN, PRECISION, needs_emulator

from rotinv.kernels.cuda import chain, launch
from rotinv.nn import architectures, forms
from rotinv.nn.devices import cuda_kernels, get_kernels
from rotinv.runs import predictions

pytestmark = needs_emulator
ON_SM_86 = 99 * 1024  # bytes of a block's shared memory
REFERENCE = get_kernels("reference")


def network_of(arch="cap", channels=4, seed=1):
    network = architectures.build(arch, 21, channels)
    params = np.float32(network.initial("he", seed))
    for views in network.views(params):
        if views:
            views["b"][:] = np.random.default_rng(seed).normal(0, 0.1, views["b"].shape)
    return network, params


def stamps_of(network, count=2):
    return np.float32(np.random.default_rng(4).uniform(size=(count, *network.in_shape)))


@pytest.fixture(scope="module")
def cap():
    return network_of()


@pytest.mark.parametrize("precision", ["fp16", "tf32"])
@pytest.mark.parametrize("arch, channels", [("cap", 3), ("deephits", 4)])
def test_scores_agree_with_the_reference_in_every_order_of_threads(arch, channels, precision):
    network, params = network_of(arch, channels)
    x, on, first = stamps_of(network, 1), EmulatedDevice(precision), None
    exact = network.forward_rotations(REFERENCE, np.float64(params), np.float64(x))
    for on.order in ORDERS:
        found = network.forward_rotations(cuda_kernels("cuda-emulated", on), params, x)
        first = first or found
        for one, same, expected in zip(found, first, exact, strict=True):
            scale = np.abs(expected).max()
            np.testing.assert_allclose(one / scale, expected / scale, rtol=0, atol=PRECISION["tf32"])
            np.testing.assert_array_equal(one, same)
    name = "mean" if arch == "cap" else "concat"
    assert {f"chain_{precision}", f"head_{name}_{precision}"} <= on.launched <= CHAIN | {"fill"}


@pytest.mark.parametrize("precision", ["fp16", "tf32"])
@pytest.mark.parametrize("arch", ["cap", "deephits"])
def test_a_stamp_scores_alike_turned_and_anywhere_in_a_batch(arch, precision):
    """The rotations of a turned stamp are the stamp's own, moved on by one, to the bit."""
    network, params = network_of(arch)
    k, x = emulated(precision), stamps_of(network)
    logits, each, units = network.forward_rotations(k, params, x)
    turned = network.forward_rotations(k, params, np.ascontiguousarray(np.rot90(x[:1], axes=(1, 2))))
    np.testing.assert_array_equal(turned.each[:, 0], np.roll(each[:, 0], -1, axis=0))
    if arch == "cap":
        np.testing.assert_array_equal(turned.logits[0], logits[0])
    np.testing.assert_array_equal(network.forward(k, params, x[1:]), logits[1:])
    np.testing.assert_array_equal(network.forward_rotations(k, params, x[::-1].copy()).units, units[::-1])


@pytest.mark.parametrize(
    "precision, names",
    [("fp16", ("chain_fp16", "chain_fp16_one")), ("tf32", ("chain_tf32", "chain_tf32_small"))],
)
def test_a_gpu_of_small_blocks_gives_the_same_bits(cap, precision, names):
    """One image a block, or one stage of weights on its way."""
    network, params = cap
    x, found = stamps_of(network, 1), []
    for most, name in zip((227 * 1024, ON_SM_86), names, strict=True):
        on = EmulatedDevice(precision, most_shared=most)
        found.append(network.forward(cuda_kernels("cuda-emulated", on), params, x))
        assert name in on.launched
    np.testing.assert_array_equal(*found)


def test_other_networks_and_devices_take_the_layers_one_by_one():
    k = emulated("fp16")
    assert all(k.chain.takes(network_of(*of)[0].form) for of in (("cap", 1), ("deephits", 4)))
    assert not k.chain.takes(network_of("cap", 5)[0].form)
    assert not k.chain.takes(architectures.build("cap", 23).form)
    assert k.chain.takes(architectures.build("cap", classes=3).form)
    assert architectures.build("cap-mini").form is not None and not k.chain.takes(
        architectures.build("cap-mini").form
    )
    small = EmulatedDevice("tf32", most_shared=ON_SM_86 - 8192)
    assert not cuda_kernels("cuda-emulated", small).chain.takes(architectures.build("cap").form)
    assert emulated("fp32").chain is None and REFERENCE.chain is None
    layers = list(architectures.build("cap").layers)
    layers[3] = replace(layers[3], slope=0.5)  # slopes that differ have no form
    assert forms.form_of(layers, (21, 21, 4)) is None


def test_no_stamps_have_no_scores(cap):
    network, params = cap
    found = network.forward_rotations(emulated("fp16"), params, stamps_of(network, 0))
    assert [array.shape for array in found] == [(0, 2), (4, 0, 2), (0, 64)]


def block_of(w, k_step):
    """Weights (k, columns) as [pair of eight columns][lane][two eights][two halves of k][number of word]."""
    (g, t), pairs, in_word = np.divmod(np.arange(32), 4), w.shape[1] // 16, k_step // 8
    out = np.zeros((pairs, 32, 2, 2, in_word), np.float32)
    for pair, eight, half, n in np.ndindex(pairs, 2, 2, in_word):
        out[pair, :, eight, half, n] = w[in_word * t + n + k_step // 2 * half, (2 * pair + eight) * 8 + g]
    return out


def stage_of(words, *blocks):
    whole = np.concatenate([each.ravel() for each in blocks])
    return np.pad(whole, (0, words - whole.size))


def stages_of(w, k_step, words):
    """The stages of weights (3, 3, c, columns): of 64 columns a k-step each, of 32 two."""
    steps = [(j, c) for j in range(3) for c in range(0, w.shape[2], k_step)]
    each = 1 if w.shape[3] == 64 else 2
    return [
        stage_of(
            words,
            *[block_of(w[i, j, c : c + k_step], k_step) for j, c in steps[at : at + each] for i in range(3)],
        )
        for at in range(0, len(steps), each)
    ]


def packed_by_numpy(ws, precision, images):
    """The weights of the convolutions as chain.cuh tells them."""
    k_step, words = (16, 3072) if precision == "fp16" else (8, 1536)
    first = np.concatenate([ws[0], np.zeros((4, 4, 4 - ws[0].shape[2], 32))], axis=2).reshape(4, 16, 32)
    of_image = [
        stage_of(words, *[block_of(first[i, at : at + k_step], k_step) for i in range(4)])
        for at in range(0, 16, k_step)
    ]
    of_image += stages_of(ws[1], k_step, words)
    return np.concatenate(
        images * of_image + [stage for w in ws[2:] for stage in stages_of(w, k_step, words)]
    )


@pytest.mark.parametrize("precision, images", [("fp16", 2), ("tf32", 1)])
def test_weights_are_packed_as_the_lanes_take_them(precision, images):
    network, params = network_of(channels=3)
    arrays = [p[name] for name in "wb" for p in [p for p in network.views(params) if p][:5]]
    expected, on = packed_by_numpy(arrays[:5], precision, images), EmulatedDevice(precision)
    itemsize = 2 if precision == "fp16" else 4
    packed, biases = on.empty((expected.size * itemsize,), np.uint8), on.empty((256,))
    powers = on.asarray([1, 0.5, 0.25, 0.25, 0.0625])
    words = packed.size // 4
    on.launch(f"chain_pack_{precision}", 7, 256, *arrays, 3, images, powers, packed, biases, words)
    on.launch(f"chain_pack_{precision}", 7, 256, *arrays, 3, images, None, packed, biases, words)
    found = packed.view(np.float16 if precision == "fp16" else np.float32)
    np.testing.assert_allclose(found, expected, rtol=2**-11, atol=1e-7)
    np.testing.assert_array_equal(biases, np.concatenate(arrays[5:]))


def test_weights_of_the_way_back_are_packed_with_their_taps_turned():
    network, params = network_of()
    ws, on = [p["w"] for p in network.views(params) if p][1:5], EmulatedDevice("tf32")
    turned = [np.ascontiguousarray(w[::-1, ::-1].transpose(0, 1, 3, 2)) for w in ws[::-1]]
    expected = np.concatenate([stage for w in turned for stage in stages_of(w, 8, 1536)])
    packed = on.empty((expected.size * 4,), np.uint8)
    on.launch("chain_pack_backward", 5, 256, *ws, packed, expected.size)
    np.testing.assert_allclose(packed.view(np.float32), expected, rtol=2**-11, atol=0)


def test_powers_of_two_keep_every_stamp_from_overflowing(cap):
    """Weights so large that halves would overflow, on the stamps of which the bound is made."""
    network, params = cap[0], cap[1].copy()
    for p in [p for p in network.views(params) if p][:5]:
        p["w"][...] = np.abs(p["w"]) * 6  # a stamp of ones then reaches the bound's size
    x = np.ones((1, *network.in_shape), np.float32)
    exact = network.forward(REFERENCE, np.float64(params), np.float64(x))
    on = EmulatedDevice("fp16")
    found = network.forward(cuda_kernels("cuda-emulated", on), params, x)
    features = network.layers[:8]
    y = np.float64(x)
    for layer, p in zip(features, network.views(np.float64(params)), strict=False):
        y, _ = layer.forward(REFERENCE, p, y, None)
    assert y.max() > 65504  # the largest half
    np.testing.assert_allclose(found, exact, rtol=0, atol=PRECISION["tf32"] * np.abs(exact).max())


def test_a_stamp_that_overflows_is_scored_in_float32(cap):
    """Of the stamps of a batch that one alone, with the bits of fp32; a stamp of NaN is refused as always."""
    network, params = cap
    x = stamps_of(network, 2)
    x[1] *= 1e6
    k = emulated("fp16")
    assert np.isfinite(network.forward(k, params, x)).all(axis=1).tolist() == [True, False]
    found = predictions.class_probabilities(k, network, params, x)
    rotations = predictions.score_rotations(k, network, params, x)
    np.testing.assert_array_equal(rotations.probabilities, found)
    plain = predictions.score_rotations(emulated("fp32"), network, params, x[1:])
    np.testing.assert_array_equal(found[1:], plain.probabilities)
    np.testing.assert_array_equal(rotations.margins[:, 1:], plain.margins)
    np.testing.assert_array_equal(rotations.units[1:], plain.units)


@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_nan_comes_through(cap, precision):
    network, params = cap
    x = stamps_of(network, 1)
    x[0, 3, 5, 1] = np.nan
    assert np.isnan(network.forward(emulated(precision), params, x)).all()


@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_no_bank_of_shared_memory_is_met_twice(cap, precision):
    """No load, those of the products among them, and no store but the pooling's in tf32."""
    network, params = cap
    on, lines = EmulatedDevice(precision), launch.source("chain").splitlines()
    k, x = cuda_kernels("cuda-emulated", on), stamps_of(network, 1)
    counts = on.counted("chain", lambda: network.forward(k, params, x))
    assert {"load_matrices", "load_four_words"} <= {
        name for line in counts for name in ("load_matrices", "load_four_words") if name in lines[line - 1]
    }
    for line, count in counts.items():
        assert count.found == count.least or count.store, lines[line - 1]
    found, least = (sum(getattr(count, name) for count in counts.values()) for name in ("found", "least"))
    assert found <= {"fp16": 1.0002, "tf32": 1.007}[precision] * least


# Races and slips of chain.cu: a text, what stands in its place, and the orders of threads that notice. Those
# that only the last two notice are races between warps.
DEFECTS = {
    "no wait for the copies": ("        wait_for_copies<SLOTS - 2>();\n", "", EVERY),
    "one group of copies too few": ("wait_for_copies<SLOTS - 2>", "wait_for_copies<SLOTS - 1>", EVERY),
    "no barrier at a stage": (
        "        wait_for_copies<SLOTS - 2>();\n        __syncthreads();",
        "        wait_for_copies<SLOTS - 2>();",
        EVERY,
    ),
    "no barrier before the first map covers the stamp": (
        "            __syncthreads();  // all have read the stamp that is now overwritten\n",
        "",
        BY_WARPS,
    ),
    "no barrier before the first maps are overwritten": (
        "            __syncthreads();  // all have read the map that is now overwritten\n",
        "",
        BY_WARPS,
    ),
    "no barrier before later maps are overwritten": (
        "        __syncthreads();  // as above\n",
        "",
        BY_WARPS,
    ),
    "a border that is not zeros": ("column == 0 || column == 13)", "column == 0)", EVERY),
    "a stage too many on its way": (
        "stage < SLOTS - 1; ++stage) send();",
        "stage < SLOTS; ++stage) send();",
        EVERY,
    ),
    "a turn the wrong way": (
        "load_stamp<T>(stamp, turn + image,",
        "load_stamp<T>(stamp, 4 - turn - image,",
        EVERY,
    ),
    "the last stage is not sent": ("S::SHARED_BY_IMAGES> ring", "S::SHARED_BY_IMAGES - 1> ring", EVERY),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DEFECTS)
def test_which_orders_of_threads_notice_a_defect(cap, name):
    network, params = cap
    weights = [(p["w"], p["b"]) for p in network.views(params) if p][:5]
    x, (text, other, orders) = stamps_of(network, 1), DEFECTS[name]
    features = partial(chain._features, x=x, weights=weights, slope=0.0)
    assert noticed_by("chain", text, other, features, "fp16") == orders


def check_on_alerts(real_data, precision, count, tolerance):
    """The largest |dp| of the authors' CAP on their alerts; a turned stamp has the same bits."""
    with h5py.File(real_data / "authors_cap_3channel.h5") as file:
        x = np.ascontiguousarray(np.moveaxis(file["check/rubin_input_nchw"][:count], 1, 3), np.float32)
        expected = file["check/rubin_p_candidate"][:count]
        weights = [
            file[f"{kind}{i}/{name}"][:]
            for kind, most in (("CNN", 5), ("FC", 3))
            for i in range(1, most + 1)
            for name in "WB"
        ]
    network, k = architectures.build("cap", 21, 3), emulated(precision)
    params = np.float32(np.concatenate([array.ravel() for array in weights]))
    p = predictions.score_stamps(k, network, params, x)
    assert np.abs(p - expected).max() < tolerance
    turned = np.ascontiguousarray(np.rot90(x[:1], 3, axes=(1, 2)))
    np.testing.assert_array_equal(predictions.score_stamps(k, network, params, turned), p[:1])
    return np.abs(p - expected).max()


@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_the_authors_cap_on_real_alerts(real_data, precision):
    check_on_alerts(real_data, precision, 5, 5e-4)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_the_authors_cap_on_all_their_alerts(real_data, precision):
    check_on_alerts(real_data, precision, 47, 2e-3)


def test_precisions_of_the_programs(tmp_path):
    """Devices other than cuda have fp32 only; networks are not trained in halves."""
    run = make_run(tmp_path / "run", "cap-mini")
    np.savez(tmp_path / "stamps.npz", **toy_arrays(8))
    for precision in ("tf32", "fp16"):
        for program, where in (("score", ("--out", tmp_path / "s.csv")), ("evaluate", ())):
            told = call(program, run, tmp_path / "stamps.npz", *where, "--precision", precision)
            assert_refused(told, precision, "fp32 only")
    assert (
        call(
            "score", run, tmp_path / "stamps.npz", "--out", tmp_path / "s.csv", "--precision", "fp32"
        ).returncode
        == 0
    )
    told = call("train", "--data", tmp_path / "stamps.npz", "--precision", "fp16")
    assert told.returncode == 2 and "invalid choice" in told.stderr
