"""How good maps are, measured on a trained network::

ways.py             the maps that are compared: methods, and rules of LRP
perturbation.py     regions of the stamps are replaced by noise: AOPC, deletion and insertion
randomisation.py    the weights are replaced by noise, layer by layer: MPRT, smooth and efficient MPRT
similarity.py       how alike two maps are (Spearman, SSIM), and how complex one is (entropy)
measures.py         each measure's table, curves and picture, for the program perturb; figures.py draws
"""
