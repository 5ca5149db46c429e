"""The arithmetic: functions from arrays to arrays. Each device has a folder, each family of functions a
module; rotinv/nn/contract.py says what every function computes."""
