"""Convolution by Winograd's minimal filtering, and its gradients: tiles.py explains the method.

tiles.py is for 3x3 taps, few.py for 4x4 taps and few channels, as of the first convolution; tile_gradients.py
and few_gradients.py are their steps in reverse. depth_first.py and depth_first_gradients.py run them over one
convolution or over several in a row, which layer_table.py tells them about.
"""
