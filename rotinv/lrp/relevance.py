"""Layer-wise relevance propagation through a network, from the logits down to the stamp.

    sum_i R_i = sum_j R_j                                                                        (Eq. 1)

holds between each layer and the one below it, except for the losses that ledger.py lists.

The class that is explained is that of the scoring pass. Everything else comes from a second forward pass,
which sums z as z+ + z-. Eqs. 2 to 4 divide by z+, z- and z: where these are nearly 0, the activations must be
the same sums. In z the two may cancel, and what float32 rounded away is then a large part of it: where a rule
divides by z, the layer's z is summed in float64. And where pixels are equal, the sums that max-pooling
compares must be equal too, or rounding would decide which of them gets the relevance. The cpu's scoring pass
gives neither: Winograd's filtering (Lavin and Gray 2016), which makes it fast, rounds each place of its tiles
in another way.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp import targets
from rotinv.lrp.composites import Composite
from rotinv.lrp.targets import Target
from rotinv.nn.contract import Array, Kernels
from rotinv.nn.layers import Layer, Params, Rule, Shape
from rotinv.nn.network import Network
from rotinv.system.errors import UserError


class Trail(NamedTuple):
    """The logits (n, classes) that are explained, and R at each layer's input, then at the logits."""

    logits: Array
    relevance: list[Array]


class Step(NamedTuple):
    """One layer's part of a relevance pass: what it got and what it passed on."""

    name: str
    layer: Layer
    rule: Rule
    p: Params
    saved: Any
    received: Array
    passed: Array


def relevance(
    k: Kernels, network: Network, params: Array, x: Array, composite: Composite, target: Target = "predicted"
) -> Trail:
    """The relevance of stamps at every layer.

    Parameters
    ----------
    k : the kernels of a device
    network, params : the network and its flat array of parameters, on the device
    x : (n, h, w, c), stamps as the network reads them, on the device
    composite : the rule of each layer (rotinv/lrp/composites.py)
    target : what is shared out (rotinv/lrp/targets.py); the logit of the predicted class by default

    Raises
    ------
    UserError
        For a target that the logits do not have, a layer without a relevance pass, a rule for a layer that
        the network does not have, and inputs that a layer's rule is not for.

    Examples
    --------
    >>> import numpy as np
    >>> from rotinv.lrp import composites
    >>> from rotinv.nn.architectures import build
    >>> from rotinv.nn.devices import get_kernels
    >>> network, k = build("cap-mini", size=13, channels=1), get_kernels("reference")
    >>> params, stamps = network.initial("he", seed=0), np.random.default_rng(0).random((2, 13, 13, 1))
    >>> trail = relevance(k, network, params, stamps, composites.named("alpha2beta1"))
    >>> trail.relevance[0].shape
    (2, 13, 13, 1)
    """
    logits = network.forward(k, params, x)
    trail = [targets.relevance(k, logits, target)]
    for step in descend(k, network, params, x, composite, trail[0]):
        trail.append(step.passed)
    return Trail(logits, trail[::-1])


def prepared(
    k: Kernels, network: Network, params: Array, composite: Composite, target: Target = "predicted"
) -> Callable[[Array], Trail]:
    """`relevance` of the other arguments, to be called for block after block of stamps x.

    Where the device can choose the class itself, and no rule has to look at a layer's input, the whole pass
    does not wait for the host once. From the second block of a shape on it is one graph then (see
    Kernels.repeated), and a block's trail is overwritten by the next block of that shape. Where the device's
    memory does not take a graph beside what it holds, blocks go on launch by launch, with the same bits.
    """

    def whole(x: Array) -> tuple[Array, list[Array]]:
        logits = network.forward(k, params, x)
        trail = [targets.relevance_on_device(k, logits, target)]
        trail += [step.passed for step in descend(k, network, params, x, composite, trail[0])]
        return logits, trail[::-1]

    def replayed(x: Array) -> tuple[Array, list[Array]] | None:
        """What the graph of the block's shape gives; None if the device has no memory for a graph."""
        try:
            return graphs[x.shape](x)
        except MemoryError:
            graphs[x.shape] = whole  # from now on
            return None

    def run(x: Array) -> Trail:
        found = replayed(x) if x.shape in met else None
        met.add(x.shape)
        logits, trail = found or whole(x)
        targets.check_finite(k.to_host(logits))
        return Trail(logits, trail)

    if not targets.are_on_device(k, target) or any(rule.reads_input for rule in _rules(network, composite)):
        return lambda x: relevance(k, network, params, x, composite, target)
    met = set[Shape]()
    graphs = defaultdict[Shape, Callable[[Array], tuple[Array, list[Array]]]](lambda: k.repeated(whole))
    return run


def _rules(network: Network, composite: Composite) -> list[Rule]:
    """The rule of each layer."""
    first = next(iter(network.weighted), None)
    shapes = zip(network.names, network.out_shapes, strict=True)
    return [composite.of(*layer, is_first=i == first) for i, layer in enumerate(shapes)]


def descend(
    k: Kernels, network: Network, params: Array, x: Array, composite: Composite, r: Array
) -> Iterator[Step]:
    """The steps of the relevance pass, from the last layer to the first, for R (n, classes) at the logits."""
    composite.check(network.ruled)
    rules = _rules(network, composite)
    signed = network.record_signed(k, params, x, [rule.divides_by_z for rule in rules])
    p = network.views(params)
    for i in range(len(network.layers) - 1, -1, -1):
        layer, rule = network.layers[i], rules[i]
        received, r = r, handed_down(k, network.names[i], layer, p[i], signed[i], r, rule)
        yield Step(network.names[i], layer, rule, p[i], signed[i], received, r)


def handed_down(k: Kernels, name: str, layer: Layer, p: Params, saved: Any, r: Array, rule: Rule) -> Array:
    """R of a layer's input. Raises UserError, with the layer's name, where the rule is not for that input."""
    try:
        return layer.relevance(k, p, saved, r, rule)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def deviation(found: NDArray[Any], exact: NDArray[Any]) -> float:
    """max |found - exact| / max |exact| of a map: how far a device's is from the reference's."""
    largest = np.abs(exact).max(initial=0)
    return float(np.abs(found - exact).max(initial=0) / (largest or 1))
