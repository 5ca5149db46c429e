"""The Python interface: `rotinv.load` and its Classifier (classifier.py), `rotinv.fit` (fitting.py), and the
checks of the arrays that they are given (inputs.py)."""
