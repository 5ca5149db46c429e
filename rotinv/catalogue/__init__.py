"""Scoring: what is scored (sources), the scores (scorer), the catalogue (formats), and Dask; which
stamps to label (picking, labelling_pages); scores beside the survey's own (unlabelled)."""
