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
χ = f² + s + √(4 f² s + w²).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from critinit.dual import Array
from critinit.theory.roots import excess_over_one, falling_root

__all__ = ["Fluctuations", "Response", "growth", "log_course", "residue", "spectrum"]

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
_FOLLOWED = 2000
"""Steps of a course that are summed; later it is continued as a power of time, times χᵗ."""
_BEYOND = 1e-4
"""The residue at χ is read at χ·(1 + this), relative: nearer, what is subtracted cancels."""


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

    def kernels(self, growth: float) -> tuple[Array, Array]:
        """Return K_o at the frequencies, (F, O), and the weights of the frequencies, (F,), for the mean over a period.

        With h = tan(ω/2), the trapezoidal rule in ln h: slow units put their power at h ≈ √λ − f, however small, and
        all poles lie at imaginary h, π/2 away from the line of integration.
        """
        root = math.sqrt(growth)
        narrow = float(np.clip(np.min(root - self.keep) / root, _NARROWEST, 1.0))
        log_h = np.arange(math.log(narrow) - _TAIL, _TAIL, _STEP)
        square = np.exp(2.0 * log_h)
        weight = (2.0 * _STEP / math.pi) * np.exp(log_h) / (1.0 + square)
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
    return float(np.max(np.abs(np.linalg.eigvals(matrix)))) if matrix.size else 0.0


def _operators(response: Response, growth: float) -> tuple[Array, Array, Array, Array, Array]:
    """K (F, O), weights (F,), T = (1 − A)⁻¹ (F, G, G), and T·Σ_o p_o e² K_o as (F, G, O), S."""
    k, weight = response.kernels(growth)
    sources = (response.weights[:, None] * response.message).T[None] * k[:, None, :]
    a = sources @ response.coupling
    t: Array = np.asarray(np.linalg.inv(np.eye(a.shape[-1]) - a), dtype=float)
    return k, weight, t, t @ sources, response.coupling


def spectrum(response: Response, noise: Array, message_noise: Array) -> tuple[Array, Array]:
    """Return the variances g_o (O,) and G_g (G,) of stationary fluctuations (λ = 1) with noise V_o and U_g."""
    k, weight, t, through, s = _operators(response, 1.0)
    message = through @ noise + t @ message_noise
    own = (weight @ k) * noise + np.einsum("f,fo,fg,og->o", weight, k, message, s, optimize=True)
    return own, weight @ message


def _feedback(response: Response, fluctuations: Fluctuations, growth: float) -> Array:
    """The matrix that takes the variances (g_o, G_g) of a perturbation to those that its own noise makes."""
    k, weight, t, through, s = _operators(response, growth)
    weighted = weight[:, None] * k
    from_noise = np.diag(weight @ k) + np.einsum("fo,fgq,og->oq", weighted, through, s, optimize=True)
    from_message = np.einsum("fo,fgh,og->oh", weighted, t, s, optimize=True)
    blocks = np.block(
        [
            [from_noise, from_message],
            [np.einsum("f,fgq->gq", weight, through), np.einsum("f,fgh->gh", weight, t)],
        ]
    )
    noise = np.hstack([np.diag(fluctuations.keep), fluctuations.coupling])
    message = np.hstack([(response.weights[:, None] * fluctuations.message).T, fluctuations.mixing])
    return np.asarray(blocks @ np.vstack([noise, message]))


def residue(response: Response, fluctuations: Fluctuations, chi: float) -> float:
    """Return the weight r of the collective mode in the mean square of a perturbation that begins at 1: r·χᵗ later on.

    It is 0 where no mode stands out from the band of the frozen diagonals.
    """
    growth = chi * (1.0 + _BEYOND)
    feedback = _feedback(response, fluctuations, growth)
    alone = growth / (growth - response.keep**2)
    k, weight, _, through, s = _operators(response, growth)
    from_noise = weight @ k + np.einsum("fo,fg,og->o", weight[:, None] * k, through.sum(axis=-1), s, optimize=True)
    source = growth * np.concatenate([from_noise, weight @ through.sum(axis=-1)])
    total = np.linalg.solve(np.eye(len(source)) - feedback, source)[: len(alone)]
    own = fluctuations.keep
    bare = growth / np.maximum(growth - response.keep**2 - own, _BEYOND * growth)
    return max(0.0, float(response.weights @ (total - bare)) * _BEYOND / (1.0 + _BEYOND))


def log_course(keep: float, frozen: float, moving: float, T: int) -> float:
    """Return ln E|δ_T|²/E|δ_0|² where all units keep the same constant share f of their memory.

    With couplings of persistent part s and fluctuating part w, and weights that stay,

        Σ_t λ^(−t−1) E|δ_t|² = 1/(√((λ − f² − s)² − 4f²s) − w).

    Without w these are p_t = Σ_j C(t, j)² f^(2t−2j) sʲ, which obey Legendre's recurrence; w renews the perturbation at
    every step, D_t = p_t + w Σ_j p_(t−1−j) D_j.

    Args:
        keep: f.
        frozen: s, averaged over units.
        moving: w, averaged over units.
        T: Steps.

    Example:
        >>> round(math.exp(log_course(0.7, 0.09, 0.0, 2)), 6)  # .7⁴ + 4·.7²·.09 + .09²
        0.4246
        >>> round(math.exp(log_course(0.7, 0.0, 0.1, 2)), 6)  # (.7² + .1)²
        0.3481
    """
    f2 = keep * keep
    chi = f2 + frozen + math.sqrt(4.0 * f2 * frozen + moving * moving)
    if not chi > 0.0:
        return -math.inf if T else 0.0
    steps = min(T, _FOLLOWED)
    a, b, w = (f2 + frozen) / chi, ((f2 - frozen) / chi) ** 2, moving / chi
    p, course = np.ones(steps + 1), np.ones(steps + 1)
    for t in range(1, steps + 1):
        p[t] = ((2 * t - 1) * a * p[t - 1] - (t - 1) * b * p[max(t - 2, 0)]) / t
        course[t] = p[t] + w * (p[t - 1 :: -1] @ course[:t])
    late = float(np.log(course[-1]))
    if steps < T:
        late += (late - float(np.log(course[steps // 2]))) / math.log(2.0) * math.log(T / steps)
    return late + T * math.log(chi)


def growth(response: Response, fluctuations: Fluctuations) -> float:
    """Return χ, the largest λ at which a perturbation feeds itself: 0 if nothing is passed on, infinity beyond e⁶⁰."""

    def feeding(log_growth: float) -> float:
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
