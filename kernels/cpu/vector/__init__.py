"""Vectors of the processor: registers (simd), tiles of products (tile), transposes, small linear maps."""
