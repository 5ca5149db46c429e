"""The paper's tables and figures, made afresh: what `python -m rotinv.reproduce` runs."""
