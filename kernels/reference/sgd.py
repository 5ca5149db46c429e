"""Plain stochastic gradient descent."""


def update(params, grads, rate):
    params -= rate * grads
