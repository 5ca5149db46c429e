"""The maps that relevance is compared with: by derivatives (derivatives.py), summed along a path from a black
stamp (integrated_gradients.py), and by covering parts of the stamp (occlusion.py)."""
