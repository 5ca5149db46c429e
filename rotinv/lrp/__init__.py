"""Layer-wise relevance propagation, by the paper's equations::

    Eq. 1         relevance.py    the pass from the logits to the stamp; ledger.py accounts for it, and
                                  ledger_report.py shows the account of a stamp, ledger_split.py that of
                                  many; trust.py says how far a map can be trusted
    Eqs. 2 to 4   rules.py        how a unit's relevance is shared out; composites.py gives rules to layers
    Eqs. 5, 6     sigma_bar.py    how far the maps of the four rotations disagree
    Figs. 3, 4    map_figures.py  the maps, drawn; heatmaps.py makes them, attribution.py for a model,
                                  study.py for several; map_files.py writes them
    methods       what relevance is compared with: derivatives, integrated gradients, occlusion
    quality       how good maps are: AOPC, insertion, deletion, randomised weights
    Table III     sigma_bar_tables.py
    Fig. 5        sigma_bar_figures.py

docs/lrp.md works the equations by hand, and docs/paper.md leads from each to its line of code.
"""
