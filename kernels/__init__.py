"""Arrays in, arrays out. A folder a device, a module a family; rotinv/nn/contract.py is the contract."""
