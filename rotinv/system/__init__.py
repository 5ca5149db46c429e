"""What all other packages use: errors, messages, whole files, locks, processes, pipelines, Dask, pictures,
tables."""
