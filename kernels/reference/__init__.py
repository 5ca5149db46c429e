"""NumPy in float64: the readable equations, against which the other devices are tested."""
