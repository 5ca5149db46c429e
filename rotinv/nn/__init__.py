"""Neural networks: the kernels' contract (contract), the devices, the layers, and Table I (architectures)."""
