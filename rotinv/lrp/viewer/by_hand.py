"""The page of the course on which each number of a network of two inputs and two units can be changed.

by_hand.js computes in fractions: the forward pass, relevance by the rule that is chosen, and the ledger;
by_hand_libraries.js what other libraries make of the same numbers (docs/course/libraries.md). It starts
with the numbers of docs/lrp.md.
"""

from rotinv.lrp.viewer.fragments import section, whole_page

TITLE = "Relevance propagation, by hand"
START = {
    **{"x_1": "1", "x_2": "2", "w_11": "3", "w_21": "-1/2", "w_12": "1", "w_22": "1/2"},
    **{"b_1": "-1", "b_2": "2", "v_1": "6", "v_2": "-1/2", "c": "-2"},
    **{"eps": "2", "alpha": "2", "gamma": "1"},
}
_FILES = ("theme.css", "by_hand.css", "by_hand_libraries.js", "by_hand.js")


def by_hand_page() -> str:
    """The page: one HTML file that needs nothing else."""
    return whole_page(TITLE, section("by-hand", TITLE, _FILES, {"start": START}, {}))
