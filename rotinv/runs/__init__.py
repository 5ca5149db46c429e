"""Trained networks: a run's folder, its model, and the training protocol (Sec. IV)."""
