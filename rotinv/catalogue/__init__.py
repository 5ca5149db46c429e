"""Scoring, whole: what is scored (sources), the scores (scorer), the catalogue (formats), and all on Dask."""
