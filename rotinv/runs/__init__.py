"""Trained networks: a run's folder, its model and scores, and the training protocol (Sec. IV)."""
