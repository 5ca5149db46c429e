"""NumPy float64: the readable equations, the judge of the other devices."""
