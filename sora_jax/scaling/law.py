"""A fitted law L(N, D) = E + A / N^alpha + B / D^beta: prediction, allocation of compute, JSON, a readable table.

Parameters are held at full precision and centred, theta = (a, b, e, alpha, beta) with A / N^alpha =
exp(a - alpha (log N - log N0)): log A alone correlates 0.999 with alpha, and printed coefficients mispredict
(Hoffmann et al. 2022 print 32B where their unrounded law says 40B; Besiroglu et al. 2024).
"""
import dataclasses
import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize_scalar

from sora_jax.scaling.points import Values
from sora_jax.types import InputError

LEVEL, SIGMA = 0.95, 0.6827
NAMES = ("E", "A", "B", "alpha", "beta", "n_exponent")


class Prediction(NamedTuple):
    """Loss and its 95 % interval, arrays of the shape asked for."""

    loss: Float[np.ndarray, "..."]
    low: Float[np.ndarray, "..."]
    high: Float[np.ndarray, "..."]


class Allocation(NamedTuple):
    """The n and d that spend `flops` best, with 95 % intervals; `at_edge` if the best n is where the search ended."""

    flops: float
    n: float
    d: float
    loss: float
    n_interval: tuple[float, float]
    d_interval: tuple[float, float]
    at_edge: bool


@dataclasses.dataclass(frozen=True)
class Law:
    """`center` is (log N0, log D0); `draws` are bootstrap thetas; `objective` is the unscaled sum of Huber terms on
    log loss; `reached` of `starts` ended at the optimum; `covariance` is that of (E, log A, log B, alpha, beta);
    `scatter` is 1.4826 times the median absolute log residual; `flags` say what is wrong with this fit."""

    theta: tuple[float, ...]
    center: tuple[float, float]
    unit_n: str
    unit_d: str
    unit_loss: str
    points: int
    runs: int
    range_n: tuple[float, float]
    range_d: tuple[float, float]
    delta: float
    objective: float
    starts: int
    reached: int
    scatter: float
    rms: float
    covariance: tuple[tuple[float, ...], ...] = ()
    draws: tuple[tuple[float, ...], ...] = ()
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def E(self) -> float:
        return float(np.exp(self.theta[2]))

    @property
    def A(self) -> float:
        return float(np.exp(self.theta[0] + self.theta[3] * self.center[0]))

    @property
    def B(self) -> float:
        return float(np.exp(self.theta[1] + self.theta[4] * self.center[1]))

    @property
    def alpha(self) -> float:
        return self.theta[3]

    @property
    def beta(self) -> float:
        return self.theta[4]

    @property
    def n_exponent(self) -> float:
        """beta / (alpha + beta): the best N grows as C to this power where C is proportional to N D."""
        return self.beta / (self.alpha + self.beta)

    def interval(self, name: str, level: float = LEVEL) -> tuple[float, float]:
        """Percentile interval of one of E, A, B, alpha, beta, n_exponent; (nan, nan) without bootstrap draws."""
        values = spread(self).get(name)
        if values is None:
            raise InputError(f"a law has no parameter {name!r}; it has {', '.join(NAMES)}")
        return _percentiles(values, level)

    def predict(self, n: Values, d: Values, *, new_run: int = 0, level: float = LEVEL) -> Prediction:
        """Loss at (n, d) with the interval of the curve, or of the mean of `new_run` more runs, with their scatter."""
        x, y = np.log(np.asarray(n, np.float64)) - self.center[0], np.log(np.asarray(d, np.float64)) - self.center[1]
        center = _log_loss(np.array(self.theta), x, y)
        if not self.draws:
            return Prediction(np.asarray(np.exp(center)), *np.full((2, *np.shape(center)), np.nan))
        draws = _log_loss(np.array(self.draws).T.reshape(5, -1, *[1] * np.ndim(center)), x, y)
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
        if new_run:
            noise = NormalDist().inv_cdf((1 + level) / 2) * self.rms / math.sqrt(new_run)
            low, high = center - np.hypot(center - low, noise), center + np.hypot(high - center, noise)
        return Prediction(*(np.asarray(np.exp(value)) for value in (center, low, high)))

    def reducible_error(self, n: Values, d: Values, loss: Values) -> Float[np.ndarray, "..."]:
        """(predicted - observed) / (observed - E): the error in the part of the loss that scaling can still remove."""
        observed = np.asarray(loss, np.float64)
        return np.asarray((self.predict(n, d).loss - observed) / (observed - self.E))

    def optimal(self, flops: float | int, flops_per: float | int | Callable[[float], float | int],
                between: tuple[float, float] | None = None) -> Allocation:
        """The n and d of least loss for a training budget. `flops_per` is k where cost = k n d (closed form), or a
        function n → FLOPs per unit of d (exact costs of small models; searched over n in `between`, by default the
        fitted range a hundredfold both ways)."""
        thetas = np.array([self.theta, *self.draws])
        if callable(flops_per):
            between = between or (self.range_n[0] / 100, self.range_n[1] * 100)
            log_n, edge = self._search(thetas, flops, flops_per, between)
            log_d = np.log(flops) - np.log([flops_per(float(np.exp(value))) for value in log_n])
        else:
            log_n, edge = self._closed_form(thetas, np.log(flops / flops_per)), False
            log_d = np.log(flops / flops_per) - log_n
        n, d = float(np.exp(log_n[0])), float(np.exp(log_d[0]))
        return Allocation(flops, n, d, float(self.predict(n, d).loss), _percentiles(np.exp(log_n[1:])),
                          _percentiles(np.exp(log_d[1:])), edge)

    def sizes(self, flops: float | int, flops_per: Callable[[float], float | int],
              between: tuple[float, float] | None = None) -> Float[np.ndarray, "draws"]:
        """log of the best n for a budget, of the law first and then of each of its bootstrap draws; as `optimal`."""
        between = between or (self.range_n[0] / 100, self.range_n[1] * 100)
        return self._search(np.array([self.theta, *self.draws]), flops, flops_per, between)[0]

    def _closed_form(self, thetas: np.ndarray, log_nd: float) -> np.ndarray:
        """log N = (log(alpha A / (beta B)) + beta log(N D)) / (alpha + beta), Hoffmann et al. equation 4."""
        a, b, _, alpha, beta = thetas.T
        log_a, log_b = a + alpha * self.center[0], b + beta * self.center[1]
        with np.errstate(divide="ignore", invalid="ignore"):  # a draw may have lost a term: its best n is 0 or infinite
            return (np.log(alpha) + log_a - np.log(beta) - log_b + beta * log_nd) / (alpha + beta)

    def _search(self, thetas: np.ndarray, flops: float | int, flops_per: Callable[[float], float | int],
                between: tuple[float, float]) -> tuple[np.ndarray, bool]:
        grid = np.linspace(*np.log(between), 801)
        log_d = np.log(flops) - np.log([flops_per(float(np.exp(value))) for value in grid])
        columns = thetas.T[:, :, None]
        best = np.argmin(_log_loss(columns, grid - self.center[0], log_d - self.center[1]), axis=1)
        log_n = grid[best]
        low, high = grid[max(best[0] - 1, 0)], grid[min(best[0] + 1, 800)]
        log_n[0] = minimize_scalar(
            lambda v: self.predict(np.exp(v), flops / flops_per(float(np.exp(v)))).loss, bounds=(low, high),
            method="bounded", options={"xatol": 1e-9}).x
        return log_n, bool(best[0] in (0, 800))

    def to_dict(self) -> dict[str, Any]:
        """Everything, at full precision, plus the readable parameters with their intervals."""
        readable = {name: {"value": getattr(self, name), "interval": self.interval(name)} for name in NAMES}
        return {"form": "E + A / n^alpha + B / d^beta", "parameters": readable, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "Law":
        """Inverse of `to_dict`, also after a trip through JSON."""
        fields = {f.name: saved[f.name] for f in dataclasses.fields(cls)}
        return cls(**{name: _tuples(value) for name, value in fields.items()})

    def __str__(self) -> str:
        spreads = spread(self)
        rows = [f"{self.unit_loss} = E + A / N^alpha + B / D^beta     N = {self.unit_n}, D = {self.unit_d}",
                f"{'':12}{'value':>12}{'half 68 %':>12}{'95 % interval':>26}"]
        for name in NAMES:
            low, high = self.interval(name)
            error = np.diff(_percentiles(spreads[name], SIGMA))[0] / 2
            spelled = (f"{error:.3g}", f"{low:.5g} .. {high:.5g}") if self.draws else ("-", "-")
            rows.append(f"{name:12}{getattr(self, name):>12.5g}{spelled[0]:>12}{spelled[1]:>26}")
        huber = f"summed Huber (delta {self.delta:g}) on log loss {self.objective:.6g}"
        starts = f"{self.reached} of {self.starts} starts reached the optimum"
        rows += [f"{self.points} points from {self.runs} runs; {huber}",
                 f"scatter {100 * self.scatter:.2f} %, rms {100 * self.rms:.2f} % of loss",
                 f"{starts}; {len(self.draws)} bootstrap draws of runs",
                 "n_exponent is beta / (alpha + beta); A, B move with alpha, beta: never quote them alone"]
        return "\n".join(rows + [f"! {flag}" for flag in self.flags] + [f"note: {note}" for note in self.notes])


def cost_curve(n: Values, cost: Values) -> Callable[[float], float | int]:
    """Cost per unit of data as a function of n: a straight line in logs between the sizes given, and beyond them on
    the slope of the outer two. For `Law.optimal` where 6 N D is wrong."""
    sizes, places = np.unique(np.log(np.asarray(n, np.float64)), return_index=True)
    values = np.log(np.asarray(cost, np.float64))[places]
    if len(sizes) < 2:
        raise InputError("a cost curve needs at least two sizes")
    slopes = np.diff(values) / np.diff(sizes)

    def at(n: float | int) -> float:
        x = np.log(n)
        k = int(np.clip(np.searchsorted(sizes, x) - 1, 0, len(slopes) - 1))
        return float(np.exp(values[k] + slopes[k] * (x - sizes[k])))

    return at


def spread(law: Law) -> dict[str, np.ndarray]:
    """The bootstrap values of every readable parameter."""
    a, b, e, alpha, beta = np.array(law.draws).reshape(-1, 5).T
    return {"E": np.exp(e), "A": np.exp(a + alpha * law.center[0]), "B": np.exp(b + beta * law.center[1]),
            "alpha": alpha, "beta": beta, "n_exponent": beta / (alpha + beta)}


def _log_loss(theta: np.ndarray, x: Values, y: Values) -> Values:
    a, b, e, alpha, beta = theta
    return np.logaddexp(np.logaddexp(a - alpha * x, b - beta * y), e)


def _percentiles(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    if not len(values):
        return (float("nan"), float("nan"))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return (float(low), float(high))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(inner) for inner in value) if isinstance(value, list | tuple) else value
