"""The kernels: arrays in, arrays out. A folder a device, a module a family; the contract is rotinv/backend.py."""
