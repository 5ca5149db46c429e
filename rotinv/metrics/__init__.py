"""How good a classifier is: rates (Table II), DET curves (Fig. 2), significance, ensembles (CAPE), and the
non-central t (Fig. 5); how it agrees with a survey's own score, and what it is to learn next."""
