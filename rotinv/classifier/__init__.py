"""The Python interface: `rotinv.load` (loading.py) and `rotinv.fit` (fitting.py) give a Classifier
(classifier.py); inputs.py checks the arrays that they are given."""
