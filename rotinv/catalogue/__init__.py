"""Scoring: what is scored (sources), the scores (scorer), the catalogue (formats), and the same on Dask."""
