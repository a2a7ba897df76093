"""What a spec is at one width, where kernels of that width differ from those of an infinitely wide network."""

from __future__ import annotations

from critinit.spec.model import InitSpec
from critinit.spec.reading import validate_object

__all__ = ["at_width"]


def at_width(spec: InitSpec, width: int) -> InitSpec:
    """Return the spec whose theory is that of networks of so many units, without predictions; mostly the spec itself.

    A recurrent kernel whose variance depends on its width, as one of an exact spectral radius, becomes a normal one of
    the variance that it has there (``Kernel.variance_at``).

    Args:
        spec: The spec.
        width: Units of a network.

    Example:
        >>> from critinit import generate
        >>> spec = generate("gru", T=50)
        >>> at_width(spec, 100) is spec
        True
    """
    data = spec.to_dict()
    changed = False
    for layer, stated in zip(spec.layers, data["layers"], strict=True):
        for group, parts in zip(layer.groups, stated.get("groups", [stated]), strict=True):
            units = max(1, round(group.share * width))
            for name, gate in group.gates.items():
                kernel = gate.recurrent
                variance = kernel.variance_at(units, units) if kernel.is_square else kernel.variance
                if variance != kernel.variance:
                    changed = True
                    parts["gates"][name]["recurrent"] = {"distribution": "normal", "variance": variance}
        stated.pop("predicted", None)
    return validate_object({**data, "scheme": "custom", "target": None}) if changed else spec
