"""How far a network's four maps of a stamp disagree (Eqs. 5 and 6), and how a class's disagreements spread.

    Var(h^{c_i}) = sum_j (h_j^{c_i} - mu_j^c)² / N              Eq. 5: h^{c_i} turned back, N pixels
    sigma-bar    = (1/4) sum_i sqrt(Var(h^{c_i}))               Eq. 6: one number per stamp and channel

The non-central t is that of T = loc + scale (Z + nc) / sqrt(V / df), Z standard normal, V chi² of df.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

FEWEST = 20  # values that a fit of four parameters is tried on
MOMENTS = ("mean", "variance", "skewness", "kurtosis")  # kurtosis: in excess of a normal's 3
DDOF = 0  # sample moments are sums divided by n
_DF, _NC = (0.5, 1000.0), (-50.0, 50.0)  # beyond, the density hardly changes along a ridge of parameters
_SCALE = (1e-5, 10.0)  # of the values' standard deviation
_STARTS = ((5.0, 0.5), (5.0, 3.0), (50.0, 0.5), (50.0, 10.0))  # df and nc, turned to the data's skewed side
_NODES = 64  # of the integral in the density


@dataclass(frozen=True)
class Moments:
    """Mean, variance, skewness and excess kurtosis; None where undefined, and then `reasons` says why."""

    mean: float | None
    variance: float | None
    skewness: float | None
    kurtosis: float | None
    reasons: dict[str, str]


@dataclass(frozen=True)
class Fit:
    """A non-central t of greatest likelihood; `status` is "converged", or says what is wrong with it.

    `log_likelihood` is the sum over the values, in their units; `distance` is Kolmogorov and Smirnov's.
    """

    df: float
    nc: float
    loc: float
    scale: float
    log_likelihood: float
    distance: float
    status: str

    @property
    def converged(self) -> bool:
        """Whether the likelihood has its maximum here."""
        return self.status == "converged"

    def density(self, x: ArrayLike) -> NDArray[np.float64]:
        """The density at x; it integrates to 1."""
        return np.exp(log_density((np.asarray(x) - self.loc) / self.scale, self.df, self.nc)) / self.scale

    def moments(self) -> Moments:
        """The distribution's own moments."""
        return nct_moments(self.df, self.nc, self.loc, self.scale)


def sample_moments(values: NDArray) -> Moments:
    """The moments of values (n,), sums divided by n (ddof 0, no correction for bias)."""
    x = np.asarray(values, dtype=np.float64)
    if not len(x):
        return Moments(None, None, None, None, dict.fromkeys(MOMENTS, "there are no values"))
    mean = x.mean()
    m2, m3, m4 = (((x - mean) ** power).mean() for power in (2, 3, 4))
    if np.ptp(x) == 0:
        reasons = dict.fromkeys(MOMENTS[2:], "the values are all equal")
        return Moments(float(mean), 0.0, None, None, reasons)
    return Moments(float(mean), float(m2), float(m3 / m2**1.5), float(m4 / m2**2 - 3), {})


def nct_moments(df: float, nc: float, loc: float = 0.0, scale: float = 1.0) -> Moments:
    """The moments of a non-central t; the k-th exists where df > k.

    With W = sqrt(df / V) and d = W - E W, T - E T = W Z + nc d: the odd powers of Z drop out.
    """
    w = [_moment_of_w(df, power) for power in range(min(4, int(np.ceil(df)) - 1) + 1)]
    found: list[float | None] = [None] * 4
    if df > 1:
        found[0] = loc + scale * nc * w[1]
    if df > 2:
        d2 = w[2] - w[1] ** 2
        v = w[2] + nc**2 * d2
        found[1] = scale**2 * v
    if df > 3:
        d3 = w[3] - 3 * w[1] * w[2] + 2 * w[1] ** 3
        found[2] = (3 * nc * (w[3] - w[1] * w[2]) + nc**3 * d3) / v**1.5
    if df > 4:
        d4 = w[4] - 4 * w[1] * w[3] + 6 * w[1] ** 2 * w[2] - 3 * w[1] ** 4
        w2d2 = w[4] - 2 * w[1] * w[3] + w[1] ** 2 * w[2]
        found[3] = (3 * w[4] + 6 * nc**2 * w2d2 + nc**4 * d4) / v**2 - 3
    reasons = {
        name: f"df {df:.3g} is not above {order}"
        for order, (name, value) in enumerate(zip(MOMENTS, found, strict=True), 1)
        if value is None
    }
    mean, variance, skewness, kurtosis = found
    return Moments(mean, variance, skewness, kurtosis, reasons)


def log_density(x: ArrayLike, df: float, nc: float) -> NDArray[np.float64]:
    """The logarithm of the standard non-central t's density at x.

    Ours, for that of scipy.stats.nct raises OverflowError or is -inf in far tails that an optimiser visits.
    """
    return _log_density(np.asarray(x, dtype=np.float64), df, nc)[0]


def _log_density(x: NDArray, df: float, nc: float) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """The logarithm of the density f at x (n,), and its derivatives by x, df and nc.

    With s = x² + df and a = nc x / sqrt(s),
        f = const(df) exp(-df nc² / 2s) s^(-(df+1)/2) I,      I = integral_0^inf y^df exp(-(y - a)²/2) dy,
    and log I has the derivatives E y - a by a and E log y by df, E the mean under I's integrand.
    """
    s = x * x + df
    root = np.sqrt(s)
    a = nc * x / root
    log_i, over_a, over_df = _integral(a, df)
    constant = df / 2 * np.log(df) - special.gammaln(df / 2) - (df - 1) / 2 * np.log(2) - np.log(np.pi) / 2
    slope = (np.log(df / 2) + 1 - special.digamma(df / 2)) / 2
    value = constant - df * nc**2 / (2 * s) - (df + 1) / 2 * np.log(s) + log_i
    by_x = (df * nc**2 / s - (df + 1)) * x / s + over_a * nc * df / (s * root)
    by_df = (
        slope - (nc * x / s) ** 2 / 2 - np.log(s) / 2 - (df + 1) / (2 * s) + over_df - over_a * a / (2 * s)
    )
    by_nc = -df * nc / s + over_a * x / root
    return value, by_x, by_df, by_nc


def _integral(a: NDArray, df: float) -> tuple[NDArray, NDArray, NDArray]:
    """log I, E y - a and E log y at a (n,), by the trapezoidal rule in v = log(e^y - 1).

    v is log y near 0, where the integrand is a power, and y far from it, where it is a normal: smooth in
    both. With q = 40.5 / (df + 1), it falls to e^-40 of its summit y0 at or before y0 + 9 and
    y0 exp(sqrt(2 q)) above, and y0 - 9 and y0 exp(-q - sqrt(2 q)) below.
    """
    summit = (a + np.sqrt(a * a + 4 * (df + 1))) / 2
    q = 40.5 / (df + 1)
    high = _log_expm1(np.minimum(summit * np.exp(np.sqrt(2 * q)), summit + 9))
    low = _log_expm1(np.maximum(summit * np.exp(-q - np.sqrt(2 * q)), summit - 9))
    step = (high - low) / (_NODES - 1)
    y = np.logaddexp(0, low[:, None] + step[:, None] * np.arange(_NODES))
    log_y = np.log(y)
    terms = df * log_y - (y - a[:, None]) ** 2 / 2 + np.log(-np.expm1(-y))  # the last is log dy/dv
    top = terms.max(axis=1)
    weights = np.exp(terms - top[:, None])
    total = weights.sum(axis=1)
    return top + np.log(total * step), (weights * y).sum(1) / total - a, (weights * log_y).sum(1) / total


def _log_expm1(y: NDArray) -> NDArray:
    """log(e^y - 1), where e^y itself may overflow."""
    return y + np.log(-np.expm1(-y))


def cumulative(x: ArrayLike, df: float, nc: float) -> NDArray[np.float64]:
    """P(T <= x) of the standard non-central t: that of Z <= x sqrt(V/df) - nc, summed over v = log(V/df).

    Ours, for that of scipy.stats.nct is NaN in its far tails.
    """
    width = np.sqrt(2 / df)
    v = np.linspace(-max(9 * width, 80 / df), 9 * width, 1000)
    weights = special.softmax(df / 2 * (v - np.exp(v)))
    return special.ndtr(np.asarray(x)[..., None] * np.exp(v / 2) - nc) @ weights


def fit_noncentral_t(values: NDArray) -> Fit | str:
    """The non-central t of greatest likelihood for values (n,), or why there is none.

    df is held within 0.5 to 1000 and nc within -50 to 50: towards a normal, or an inverse chi, they would
    grow without end. A fit that ends there says so in its status.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) < FEWEST:
        return f"too few values to fit: {len(x)}, where at least {FEWEST} are needed"
    spread = x.std()
    if np.ptp(x) == 0 or not np.isfinite(spread):
        return "the values are all equal" if np.ptp(x) == 0 else "the values are not finite"
    y = (x - x.mean()) / spread
    tries = [_climb(y, df, nc) for df, nc in _STARTS]
    best = min(
        (found for found in tries if np.isfinite(found.fun)), key=lambda found: found.fun, default=None
    )
    if best is None:
        return "the likelihood is not finite from any start"
    df, nc, middle, scale = _natural(best.x)
    loc = float(x.mean() + spread * (middle - scale * nc))
    likelihood = float(-len(x) * (best.fun + np.log(spread)))
    scale = float(spread * scale)
    return Fit(df, nc, loc, scale, likelihood, _distance(x, df, nc, loc, scale), _status(best))


def _climb(y: NDArray, df: float, nc: float) -> optimize.OptimizeResult:
    """The least negative log-likelihood per value, from a t of that df and nc with the data's mean and std.

    Optimised are log df, nc, loc + scale nc (the middle: it and nc hardly pull each other) and log scale.
    """
    nc *= 1.0 if (y**3).mean() >= 0 else -1.0
    start = nct_moments(df, nc)
    assert start.mean is not None and start.variance is not None
    scale = 1 / np.sqrt(start.variance)

    def loss(p: NDArray) -> tuple[float, list[float]]:
        df, nc, middle, scale = _natural(p)
        t = (y - middle) / scale
        value, by_x, by_df, by_nc = _log_density(t + nc, df, nc)
        slopes = (df * by_df, by_nc + by_x, -by_x / scale, -by_x * t - 1)
        return float(np.log(scale) - value.mean()), [-float(slope.mean()) for slope in slopes]

    first = np.array([np.log(df), nc, scale * (nc - start.mean), np.log(scale)])
    bounds = [tuple(np.log(_DF)), _NC, (-10.0, 10.0), tuple(np.log(_SCALE))]
    options = {"maxiter": 500, "ftol": 1e-12, "gtol": 1e-6}
    return optimize.minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds, options=options)


def _natural(p: NDArray) -> tuple[float, float, float, float]:
    """df, nc, middle and scale of what is optimised."""
    return float(np.exp(p[0])), float(p[1]), float(p[2]), float(np.exp(p[3]))


def _status(result: optimize.OptimizeResult) -> str:
    if not result.success:
        return f"did not converge: {result.message}"
    df, nc, _, scale = _natural(result.x)
    limits = [("df", df, _DF), ("nc", nc, _NC), ("scale/std", scale, _SCALE)]
    reached = [f"{name} {value:.4g}" for name, value, ends in limits if np.isclose(value, ends, 1e-3).any()]
    return f"no maximum within the limits: {' and '.join(reached)}" if reached else "converged"


def _distance(x: NDArray, df: float, nc: float, loc: float, scale: float) -> float:
    """Kolmogorov and Smirnov's distance: the largest between the fit's distribution and the values' own."""
    below = cumulative((np.sort(x) - loc) / scale, df, nc)
    steps = np.arange(len(x) + 1) / len(x)
    return float(max((steps[1:] - below).max(), (below - steps[:-1]).max()))


def _moment_of_w(df: float, power: int) -> float:
    """E W^power, W = sqrt(df / V): (df/2)^(power/2) Gamma((df - power)/2) / Gamma(df/2)."""
    ratio = special.gammaln((df - power) / 2) - special.gammaln(df / 2)
    return float(np.exp(power / 2 * np.log(df / 2) + ratio))
