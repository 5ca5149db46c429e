"""Checks of pictures: nothing lies over their edges, and curves can be told apart without colour."""

from matplotlib.backends.backend_agg import FigureCanvasAgg


def over_the_edge(figure):
    """By how many inches what is drawn sticks out over the edges of a figure; 0 if nothing does."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box, (width, height) = figure.get_tightbbox(canvas.get_renderer()), figure.get_size_inches()
    return max(-box.x0, -box.y0, box.x1 - width, box.y1 - height, 0)


def looks(lines):
    """How each line is drawn, but for its colour."""
    return [(str(line.get_linestyle()), str(line.get_marker())) for line in lines]
