"""Stamps: the store and its splits, how pixels are scaled (Sec. IV), arrays, and the original HiTS files."""
