"""Alert packets of surveys, read from Avro, FITS and Parquet files, as stamps."""
