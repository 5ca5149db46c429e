"""Which rule goes to which layer: by a name, by a rule's numbers, or layer by layer.

A text as `--rule` takes it, read by `named`:

    alpha2beta1                               a name of COMPOSITES
    alpha-beta:alpha=3,beta=2                 a rule of RULES with its numbers, for all layers
    convolution 1=zbox; dense 3=epsilon       rules for single layers, the others by alpha2beta1
    gamma:gamma=.1; dense 3=epsilon:eps=0.01  the same, the others by the rule that comes first
    gamma; dense=epsilon                      a rule for all layers of a kind
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import Any

from rotinv.lrp.rules import AlphaBeta, Epsilon, Flat, Gamma, WSquare, ZBox, ZPlus
from rotinv.nn.layers import Rule, Shape
from rotinv.system.errors import UserError, not_known


@dataclass(frozen=True)
class Composite:
    """A rule for the first layer with weights, and one each for the other layers of maps and of vectors.

    A mean without weights, such as the cyclic average pooling, goes by the rule of what it averages: of
    vectors `dense`, of maps `convolution`. A layer whose name is in `layers`, as "dense 3", goes by the rule
    there, and so do all layers of a kind, as "dense".
    """

    first: Rule
    convolution: Rule
    dense: Rule
    layers: Mapping[str, Rule] = field(default_factory=dict)

    def of(self, name: str, out_shape: Shape, *, is_first: bool) -> Rule:
        """The rule of a layer of that name whose output has this shape: (h, w, c) or (c,)."""
        if (own := self.own(name)) is not None:
            return own
        if is_first:
            return self.first
        return self.dense if len(out_shape) == 1 else self.convolution

    def own(self, name: str) -> Rule | None:
        """The rule of the layer of that name, or of its kind, in `layers`."""
        return self.layers.get(name, self.layers.get(_kind(name)))

    def check(self, names: Sequence[str]) -> None:
        """Raise UserError if there is a rule for none of the layers of these names, nor of their kinds."""
        for name in self.layers:
            if name not in names and name not in map(_kind, names):
                raise not_known("layer", name, names)

    @classmethod
    def everywhere(cls, rule: Rule) -> "Composite":
        """One rule for all layers (the paper's alpha 2, beta 1)."""
        return cls(rule, rule, rule)


COMPOSITES = {
    "alpha2beta1": Composite.everywhere(AlphaBeta(2.0, 1.0)),
    "alpha1beta0": Composite.everywhere(AlphaBeta(1.0, 0.0)),
    "epsilon": Composite.everywhere(Epsilon()),
    "zero": Composite.everywhere(Epsilon(0.0)),
    "gamma": Composite.everywhere(Gamma()),
    "zplus": Composite.everywhere(ZPlus()),
    "wsquare": Composite.everywhere(WSquare()),
    "flat": Composite.everywhere(Flat()),
    "zbox": Composite(ZBox(), ZPlus(), ZPlus()),  # only the stamps' pixels are bounded
    "epsilon-plus-flat": Composite(Flat(), ZPlus(), Epsilon()),
    "epsilon-alpha2beta1-flat": Composite(Flat(), AlphaBeta(), Epsilon()),
    "epsilon-gamma-box": Composite(ZBox(), Gamma(), Epsilon()),
}
DEFAULT = "alpha2beta1"  # the paper's
HELP = (
    f"one of {', '.join(COMPOSITES)}; a rule by its numbers, as alpha-beta:alpha=3,beta=2; or rules by "
    "layer, as 'convolution 1=zbox; dense 3=epsilon'"
)

RULES: dict[str, Rule] = {
    "alpha-beta": AlphaBeta(),
    "epsilon": Epsilon(),
    "zero": Epsilon(0.0),
    "gamma": Gamma(),
    "zplus": ZPlus(),
    "wsquare": WSquare(),
    "flat": Flat(),
    "zbox": ZBox(),
    "alpha2beta1": AlphaBeta(2.0, 1.0),
    "alpha1beta0": AlphaBeta(1.0, 0.0),
}


def named(text: str) -> Composite:
    """The composite that a text describes, in one of the forms at the head of this module.

    Raises UserError for a rule or a number that is not known, and for numbers that the rule refuses. That the
    network has the layers is checked when relevance is computed.

    >>> named("epsilon").dense
    Epsilon(eps=1e-06)
    >>> named("epsilon-plus-flat").first
    Flat()
    >>> named("alpha-beta:alpha=3,beta=2").first
    AlphaBeta(alpha=3.0, beta=2.0, eps=0.0, one_sided='literal')
    >>> named("convolution 1=zbox; dense 3=epsilon:eps=0.01").layers["dense 3"]
    Epsilon(eps=0.01)
    """
    if not isinstance(text, str):
        raise not_known("rule", text, dict.fromkeys([*COMPOSITES, *RULES]))
    base, layers = DEFAULT, {}
    for i, part in enumerate(text.split(";") if text.strip() else [text]):
        layer, rule = _layer_and_rule(part)
        if part.strip().startswith("="):
            raise UserError(f"rule {text!r}: {part.strip()!r} names no layer; write 'dense 3{part.strip()}'")
        if layer in layers:
            raise UserError(f"rule {text!r}: names {layer!r} twice")
        if layer:
            layers[layer] = _rule(rule)
        elif i == 0:
            base = rule
        else:
            raise UserError(f"rule {text!r}: {rule!r} must say for which layer, as in 'dense 3={rule}'")
    return replace(_whole(base), layers=layers)


def _layer_and_rule(part: str) -> tuple[str, str]:
    """("dense 3", "epsilon:eps=1") of "dense 3=epsilon:eps=1"; the layer is empty where none is named."""
    layer, equals, rule = part.partition("=")
    if not equals or ":" in layer:
        return "", part.strip()
    return " ".join(layer.lower().split()), rule.strip()


def _whole(text: str) -> Composite:
    """The composite of a name, or of one rule with its numbers."""
    name, colon, _ = text.partition(":")
    if not colon and name in COMPOSITES:
        return COMPOSITES[name]
    if name not in RULES and name not in COMPOSITES:
        raise not_known("rule", name, dict.fromkeys([*COMPOSITES, *RULES]))
    rule = _rule(text)
    return replace(COMPOSITES[name], first=rule) if name == "zbox" else Composite.everywhere(rule)


def _rule(text: str) -> Rule:
    """The rule of a text as "epsilon:eps=0.01"."""
    name, _, numbers = text.partition(":")
    name = name.strip()
    if name in COMPOSITES and name not in RULES:
        raise UserError(f"rule {text!r}: is made of several; give each layer its own, as 'dense 3=epsilon'")
    if name not in RULES:
        raise not_known("rule", name, RULES)
    return _with_numbers(RULES[name], name, numbers)


def _with_numbers(rule: Any, name: str, text: str) -> Any:
    """The rule with numbers as in "alpha=3,beta=2"; `one_sided` takes a word."""
    kinds = {entry.name: type(getattr(rule, entry.name)) for entry in fields(rule)}
    given: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key not in kinds:
            takes = ", ".join(kinds) or "no number"
            raise UserError(f"rule {name!r}: {part!r} is nothing that it takes; it takes {takes}")
        try:
            given[key] = kinds[key](value)
        except ValueError:
            raise UserError(f"rule {name!r}: {part!r} is no number; write as {key}=0.1") from None
    return replace(rule, **given)


def _kind(name: str) -> str:
    """What a layer is, without its number: "dense" of "dense 3"."""
    return name.rstrip("0123456789").rstrip()


def as_fractions(composite: Composite) -> Composite:
    """A composite whose rules have fractions for numbers, for arithmetic without rounding."""
    first, convolution, dense = map(with_fractions, (composite.first, composite.convolution, composite.dense))
    layers = {name: with_fractions(rule) for name, rule in composite.layers.items()}
    return Composite(first, convolution, dense, layers)


def with_fractions(frozen: Any) -> Any:
    """A frozen description (a rule, a layer) with its floating-point numbers as fractions."""
    numbers = {f.name: getattr(frozen, f.name) for f in fields(frozen) if f.init}
    as_fractions = {name: Fraction(value) for name, value in numbers.items() if isinstance(value, float)}
    return replace(frozen, **as_fractions)
