"""The Python interface: classifier.py has what `rotinv.load` gives, fitting.py `rotinv.fit`, inputs.py reads
arrays."""
