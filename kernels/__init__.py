"""Arrays in, arrays out. A folder a device, a module a family; rotinv/backend.py is the contract."""
