"""Whether data lie on their side: steps where a layout has the features, as in files with one sequence in each row."""

from __future__ import annotations

import numpy as np

from critinit.dual import Array

__all__ = ["sideways"]

_FEATURES = 16
"""Fewer features than this say too little."""
_ALIKE = 0.5
"""Neighbouring features of a signal that lies on its side are at least as alike as this."""
_FALLS = 0.3
"""By how much less alike are features half their number apart: prices of one market are alike at any distance."""


def sideways(values: Array) -> str:
    """Return a note where the features look like the steps of a signal, and the steps do not; else "".

    Two numbers side by side are compared with two that follow each other in time, each by the correlation about the
    feature's mean.

    Args:
        values: Numbers of shape (sequences, steps, features).

    Example:
        >>> import numpy as np
        >>> walks = np.cumsum(np.random.default_rng(0).standard_normal((1, 200, 50)), axis=2)
        >>> sideways(walks).partition(":")[0], sideways(walks.swapaxes(1, 2))
        ('each row may be a sequence', '')
    """
    sequences, steps, features = values.shape
    if features < _FEATURES or steps < 2:
        return ""
    about = values - values.mean(axis=(0, 1))
    power = float(np.mean(about**2))
    if not 0.0 < power < np.inf:
        return ""
    beside, far = (float(np.mean(about[..., :-n] * about[..., n:])) / power for n in (1, features // 2))
    after = float(np.mean(about[:, :-1] * about[:, 1:])) / power
    if beside < _ALIKE or beside - far < _FALLS or after > beside / 2.0:
        return ""
    layout, what = ("NT", "each row may be a sequence") if sequences == 1 else ("NFT", "steps may stand last")
    return (
        f"{what}: numbers side by side are alike (correlation {beside:.2g}), and those of two steps are not "
        f"({after:.2g}); then layout={layout!r} (--layout {layout}) says so"
    )
