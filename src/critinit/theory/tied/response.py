"""Linear fluctuations in a network of fixed weights, by class of units and frequency.

A unit of class o (weight p_o) carries x' = f_o x + Σ_k ā_ok y_k + white noise of variance V_o, its message of group g
is e_og x + white noise, of variance U_g over units, and y_k = W_k m_g is a Gaussian field with the messages' own
spectrum times σ_k².  Growing or shrinking as λ^(t/2), the spectra obey

    ĝ_o(ω) = K_o(ω) (Σ_g S_og ĝ_g(ω) + V_o),     K_o = 1/|√λ e^{iω} − f_o|²,    S_og = Σ_{k reading g} σ_k² ā_ok²
    ĝ_g(ω) = Σ_o p_o e_og² ĝ_o(ω) + U_g

so they have a solution while the matrix A(ω) = Σ_o p_o K_o e_og² S_og' stays below 1; A(0) = 1 is the spectral edge
of frozen diagonals, 1 = σ² E[a²/|√λ − f|²].  With λ = 1 these are the state's own fluctuations.  Perturbations make
their own noise, V_o = v_o g_o + Σ_g W_og G_g and U_g = Σ_o p_o z_og g_o + Σ_l B_gl G_l in terms of their variances
g_o and G_g: χ is the largest λ at which that feeds itself.  One class with one gate gives the closed form
χ = f² + s + √(4 f² s + w²), and with δ_0 = 1 the whole course, Σ_t λ⁻ᵗ E δ_t² = λ/(√((λ − f² − s)² − 4 f² s) − w).

That sum holds for complex λ too, where √λ = ρ e^{iθ}.  Its coefficients are what is left after t steps: a contour
integral of λᵗ⁻¹ around everything up to χ (``log_retention``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critinit.dual import Array
from critinit.roots import excess_over_one, falling_root

__all__ = ["Fluctuations", "Response", "growth", "log_retention", "spectrum"]

_STEP = 0.4
"""Step of ln h: the poles are π/2 away from the line of integration, so the rule errs by e^(−π²/.4) = 2e-11."""
_TAIL = 18.0
"""How far ln h runs beyond the slowest unit's pole: what lies beyond is e⁻¹⁸ = 2e-8 of all."""
_NARROWEST = 1e-12
"""The smallest 1 − f/√λ that is resolved: below it double precision ends."""
_ACCURACY = 1e-13
"""Of ln χ."""
_FIRST_STEP = 1e-3
"""Of ln χ, from the slowest units by themselves upwards."""
_SLOWEST = 1e-26
"""A growth per step below this is none: f² of a unit that keeps nothing but rounding."""
_LARGEST_LOG = 60.0
"""Of ln χ: beyond e⁶⁰ a step, numbers mean nothing."""
_FEW = 16
"""Steps up to which the contour is a circle: Talbot's would wind around 0."""
_MANY = 10**6
"""Steps beyond which what is left shrinks as χ: χ itself is known to 1e-7."""
_CIRCLE, _TURN = 8, 40.0
"""Points on the circle in units of T, and ln of what they err by, inverse."""
_TALBOT = 24
"""Points on Talbot's contour: the error is about 3.9 to the power of their number, inverse (Weideman 2006)."""


@dataclass(frozen=True)
class Fluctuations:
    """How perturbations fluctuate.

    Attributes:
        keep: v_o, (O,).
        coupling: W_og, (O, G).
        message: z_og, (O, G).
        mixing: B_gl, (G, G).
    """

    keep: Array
    coupling: Array
    message: Array
    mixing: Array


@dataclass(frozen=True)
class Response:
    """The mean response.

    Attributes:
        weights: p_o, (O,).
        keep: f_o, (O,).
        coupling: S_og, (O, G).
        message: e_og², (O, G).
    """

    weights: Array
    keep: Array
    coupling: Array
    message: Array

    def kernels(self, root: complex) -> tuple[Array, Array]:
        """Return K_o at the frequencies, (F, O), and the weights of the frequencies, (F,), for the mean over a period.

        With h = tan(ω/2), the trapezoidal rule in ln h: slow units put their power at h ≈ √λ − f, however small, and
        all poles lie at h = ±i(√λ − f)/(√λ + f): at real λ π/2 away from the line of integration, which turns with
        them where λ is complex.

        Args:
            root: √λ.
        """
        poles = (root - self.keep) / (root + self.keep)
        turned = np.exp(0.5j * np.max(np.angle(poles))) if isinstance(root, complex) else 1.0
        narrow = float(np.clip(np.min(np.abs(poles)), _NARROWEST, 1.0))
        h = turned * np.exp(np.arange(math.log(narrow) - _TAIL, _TAIL, _STEP))
        square = h * h
        weight = (2.0 * _STEP / math.pi) * h / (1.0 + square)
        sine_square = square / (1.0 + square)  # sin²(ω/2)
        distance = (root - self.keep) ** 2 + 4.0 * root * self.keep * sine_square[:, None]
        return 1.0 / distance, weight

    def radius(self, growth: float) -> float:
        """Return the largest eigenvalue of A(0): 1 at the spectral edge."""
        gap = math.sqrt(growth) - self.keep
        if np.any(gap <= 0.0):
            return math.inf
        a = (self.message * (self.weights / gap**2)[:, None]).T @ self.coupling
        return _radius(a)


def _radius(matrix: Array) -> float:
    if not np.all(np.isfinite(matrix)):
        return math.inf
    return float(np.max(np.abs(np.linalg.eigvals(matrix)))) if matrix.size else 0.0


def _operators(response: Response, root: complex) -> tuple[Array, Array, Array, Array, Array]:
    """K (F, O), weights (F,), T = (1 − A)⁻¹ (F, G, G), and T·Σ_o p_o e² K_o as (F, G, O), S; at √λ = root."""
    k, weight = response.kernels(root)
    sources = (response.weights[:, None] * response.message).T[None] * k[:, None, :]
    a = sources @ response.coupling
    t: Array = np.asarray(np.linalg.inv(np.eye(a.shape[-1]) - a), dtype=a.dtype)
    return k, weight, t, t @ sources, response.coupling


def spectrum(response: Response, noise: Array, message_noise: Array) -> tuple[Array, Array]:
    """Return the variances g_o (O,) and G_g (G,) of stationary fluctuations (λ = 1) with noise V_o and U_g."""
    k, weight, t, through, s = _operators(response, 1.0)
    message = through @ noise + t @ message_noise
    own = (weight @ k) * noise + np.sum(s * (k.T @ (weight[:, None] * message)), axis=1)
    return own, weight @ message


def _from_noise(response: Response, root: complex) -> Array:
    """The matrix that takes noise V_o and U_g to the variances (g_o, G_g) that it makes; at √λ = root."""
    k, weight, t, through, s = _operators(response, root)
    weighted, made = (weight[:, None] * k).T, np.concatenate([through, t], axis=2)
    from_fields = sum(
        (s[:, g, None] * (weighted @ made[:, g]) for g in range(s.shape[1])), start=np.zeros(made.shape[2])
    )
    whole = np.concatenate([np.zeros((len(weighted), made.shape[2])) + from_fields, np.tensordot(weight, made, 1)])
    classes = np.arange(len(weighted))
    whole[classes, classes] += weight @ k
    return np.asarray(whole)


def _own_noise(response: Response, fluctuations: Fluctuations) -> Array:
    """The matrix that takes the variances (g_o, G_g) of a perturbation to the noise that it makes, (V_o, U_g)."""
    noise = np.hstack([np.diag(fluctuations.keep), fluctuations.coupling])
    message = np.hstack([(response.weights[:, None] * fluctuations.message).T, fluctuations.mixing])
    return np.vstack([noise, message])


def _feedback(response: Response, fluctuations: Fluctuations, growth: float) -> Array:
    """The matrix that takes the variances (g_o, G_g) of a perturbation to those that its own noise makes."""
    return np.asarray(_from_noise(response, math.sqrt(growth)) @ _own_noise(response, fluctuations))


def log_retention(response: Response, fluctuations: Fluctuations, chi: float, T: int) -> float:
    """Return ln E|δ_T|²/E|δ_0|²: Σ_t λ⁻ᵗ E|δ_t|² times λᵀ⁻¹, integrated around everything up to χ.

    The contour is Talbot's in ln λ, of 24 points whatever T is, or a circle where T is small.  What is left is then
    known to 1e-6, relative.

    Args:
        response: The mean response.
        fluctuations: How it varies.
        chi: χ, as ``growth`` returns it.
        T: Steps.

    Returns:
        The logarithm; −∞ where nothing is passed on.
    """
    if chi <= 0.0:
        return -math.inf
    own, classes = _own_noise(response, fluctuations), len(response.keep)
    perturbed = np.zeros(len(own))
    perturbed[:classes] = 1.0

    def summed(log_growth: complex) -> complex:
        made = _from_noise(response, complex(np.exp(0.5 * log_growth)))
        variances = np.linalg.solve(np.eye(len(own)) - made @ own, made @ perturbed)
        return complex(np.exp(log_growth) * (response.weights @ variances[:classes]))

    t = min(T, _MANY)
    contour = _circle(t) if t < _FEW else _talbot(t)
    terms = [summed(math.log(chi) + z) * np.exp(z * t) * slope for z, slope in zip(*contour, strict=True)]
    whole = math.log(max(float(np.sum(terms).real), np.finfo(float).tiny)) + T * math.log(chi)
    with np.errstate(divide="ignore"):
        alone = np.log(response.weights) + T * np.log(response.keep**2 + fluctuations.keep)
    return max(whole, float(np.logaddexp.reduce(alone)))  # units by themselves: less cannot be left


def _circle(T: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The upper half of a circle of λ around |λ| = χ, as ln λ/χ, and the weights of its points."""
    count = _CIRCLE * T
    angles = (2.0 * math.pi / count) * (np.arange(count // 2) + 0.5)
    return np.asarray(_TURN / count + 1j * angles), np.full(count // 2, 2.0 / count)


def _talbot(T: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The upper half of Talbot's contour around ln λ/χ ≤ 0, and the weights of its points (Weideman 2006)."""
    angles = (2.0 * math.pi / _TALBOT) * (np.arange(_TALBOT // 2) + 0.5)
    half = 0.6407 * angles
    z = _TALBOT * (0.5017 * angles / np.tan(half) - 0.6122 + 0.2645j * angles) / T
    slope = _TALBOT * (0.5017 / np.tan(half) - 0.5017 * half / np.sin(half) ** 2 + 0.2645j) / T
    return z, 2.0 * slope / (1j * _TALBOT)


def growth(response: Response, fluctuations: Fluctuations) -> float:
    """Return χ, the largest λ at which a perturbation feeds itself: 0 if nothing is passed on, infinity beyond e⁶⁰."""

    def feeding(log_growth: float) -> float:
        if log_growth > _LARGEST_LOG:
            return -1.0  # no use to look on
        chi = math.exp(log_growth)
        if response.radius(chi) >= 1.0:
            return 1.0
        return excess_over_one(_radius(_feedback(response, fluctuations, chi)))

    alone = float(np.max(response.keep**2 + fluctuations.keep))  # the slowest units by themselves
    low = math.log(max(alone, _SLOWEST))
    if alone <= _SLOWEST and feeding(low) < 0.0:
        return 0.0
    found = falling_root(feeding, low, _FIRST_STEP, _ACCURACY)
    return math.exp(found) if found <= _LARGEST_LOG else math.inf
