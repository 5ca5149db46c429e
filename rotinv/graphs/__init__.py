"""Any network, from ONNX: reading.py opens the file, orientation.py puts the channels first, building.py
makes layers (layers.py, windows.py) of its operators (operators.py), graph.py scores and hands relevance
down."""
