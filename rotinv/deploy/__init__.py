"""Networks out and in: weights of other libraries' files, exports, streams, model cards."""
