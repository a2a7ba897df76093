"""The check points of the theory as specs: σ², ν², μ per gate, R = 1 unless given."""

from __future__ import annotations

import critinit
from critinit.spec import InitSpec
from critinit.spec.reading import validate_object


def kernel(variance, distribution="normal"):
    return {"distribution": distribution if variance else "zero", "variance": float(variance)}


def normalized(recurrent_gain, input_gain, mean, distribution="normal", variances=(1.0, 1.0)):
    """A gate of a normalized cell."""
    return {
        "recurrent": kernel(variances[0], distribution),
        "input": kernel(variances[1]),
        "bias": {"distribution": "constant", "mean": float(mean)},
        "recurrent_gain": recurrent_gain,
        "input_gain": input_gain,
    }


def gate(recurrent, feed, mean, variance=0.0, distribution="normal"):
    kind = "normal" if variance else "constant"
    return {
        "recurrent": kernel(recurrent, distribution),
        "input": kernel(feed),
        "bias": {"distribution": kind, "mean": float(mean), "variance": float(variance)},
    }


def spec(
    cell, gates, *, input_variance=1.0, correlation=1.0, padding=None, T=100, projection=None, memory_gain=None
) -> InitSpec:
    layer = {"input": {"variance": input_variance, "correlation": correlation}, "gates": gates}
    if memory_gain is not None:
        layer["memory_gain"] = memory_gain
    if padding is not None:
        layer["input"]["padding"] = {"variance": padding}
    if projection is not None:
        layer["projection"] = projection
    data = {"schema_version": 1, "cell": cell, "scheme": "custom", "T": T, "layers": [layer]}
    return validate_object(data)


def generate(cell, T, padding=None, *, constant=False, **arguments) -> InitSpec:
    """A generated spec; ``padding``: the variance of padding, None where nothing is known of it."""
    known = None if padding is None else {"variance": padding, "constant": constant}
    return critinit.generate(cell, T, padding=known, **arguments)


def gru(cell="gru_reset_before", distribution="normal", **changes):
    gates = {
        "update": gate(0.5, 0.5, 2, distribution=distribution),
        "reset": gate(0.7, 0.3, 1, distribution=distribution),
        "candidate": gate(1.5, 0.8, 0, distribution=distribution),
    }
    return spec(cell, gates, **changes)


def lstm():
    return spec(
        "lstm",
        {
            "input": gate(0.6, 0.4, -1),
            "forget": gate(0.5, 0.3, 2),
            "cell": gate(1.2, 1, 0),
            "output": gate(0.8, 0.2, 0.5),
        },
    )


def peephole():
    gates = {"input": gate(0.2, 0.4, -2), "forget": gate(0.1, 0.3, 1), "cell": gate(0.6, 1, 0)}
    return spec("peephole_lstm", gates)


def rnn():
    return spec("rnn", {"hidden": gate(1.2, 0.3, 0, 0.1)})


def minimal():
    """A published critical point, χ = .999 untied; kept weights make it chaotic."""
    return spec("minimal_rnn", {"update": gate(6.88**2, 1.39**2, 0)}, input_variance=0.46)


def mgu(distribution="normal"):
    gates = {
        "update": gate(0.5, 0.1, 0, distribution=distribution),
        "candidate": gate(3, 0.5, 0.3, distribution=distribution),
    }
    return spec("mgu", gates)


def ugrnn(distribution="normal"):
    gates = {
        "update": gate(0.5, 0.1, 0.5, distribution=distribution),
        "candidate": gate(2, 0.5, 0.3, distribution=distribution),
    }
    return spec("ugrnn", gates)


def coupled():
    gates = {"forget": gate(0.5, 0.3, 1.5), "cell": gate(2.2, 1, 0.2), "output": gate(0.8, 0.2, 0.5)}
    return spec("coupled_lstm", gates)


def projection(width=0.3, distribution="orthogonal", variance=1.0):
    gates = {
        "input": gate(0.6, 0.4, -0.5),
        "forget": gate(0.5, 0.3, 1.5),
        "cell": gate(1.8, 1, 0.2),
        "output": gate(0.8, 0.2, 0.5),
    }
    kernel = {"distribution": distribution, "variance": variance}
    return spec("projection_lstm", gates, projection={"kernel": kernel, "width": width})


def layernorm_gru(distribution="normal", **changes):
    """Kernels of all sizes, which normalization makes alike."""
    gates = {
        "update": normalized(0.4, 0.5, 1.5, distribution, (3.0, 1.0)),
        "reset": normalized(0.6, 0.5, 1.0, distribution, (0.5, 2.0)),
        "candidate": normalized(0.5, 0.9, 0.2, distribution, (2.0, 0.3)),
    }
    return spec("layernorm_gru", gates, **{"input_variance": 2.5, "T": 50} | changes)


def layernorm_lstm(distribution="normal", *, cell="layernorm_lstm", memory_gain=0.7, candidate=0.2, **changes):
    gates = {
        "input": normalized(0.3, 0.6, -0.5, distribution, (2.0, 1.0)),
        "forget": normalized(0.3, 0.5, 1.5, distribution),
        "cell": normalized(0.4, 1.0, candidate, distribution, (0.1, 1.0)),
        "output": normalized(0.3, 0.4, 0.5, distribution),
    }
    return spec(cell, gates, memory_gain=memory_gain, **{"T": 50} | changes)


def layernorm_lstm_kept(distribution="normal", **changes):
    return layernorm_lstm(distribution, cell="layernorm_lstm_kept", candidate=0.0, **changes)


def slow():
    gates = {"update": gate(0, 0, 3), "reset": gate(0, 0, 2), "candidate": gate(2, 0.1, 0)}
    return spec("gru_reset_before", gates)
