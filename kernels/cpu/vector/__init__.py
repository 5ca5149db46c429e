"""The processor's vector registers (simd), the tile of sums in registers (tile), transposes and small linear
maps."""
