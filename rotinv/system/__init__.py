"""What every room stands on: errors, whole files, HDF5, locks, processes, pipelines, Dask, pictures."""
