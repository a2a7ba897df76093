"""``critinit materialize``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from critinit_cli import options
from critinit_cli.output import emit
from critinit_cli.usage import named_as_options

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "materialize"
EXAMPLES = """\b
Examples:
  critinit materialize spec.json --framework torch --input-size 10 --hidden-size 128 -o gru.safetensors
  critinit materialize spec.json --framework keras --input-size 10 --hidden-size 128 --seed 1 -o gru.weights.h5
"""

Input = Annotated[
    int,
    typer.Option("--input-size", metavar="I", help="Input coordinates.", parser=options.integer, show_default=False),
]
Hidden = Annotated[
    int, typer.Option("--hidden-size", metavar="H", help="Hidden units.", parser=options.integer, show_default=False)
]
Seed = Annotated[int, typer.Option("--seed", metavar="S", help="Of the draws.", parser=int)]
Both = Annotated[bool, typer.Option("--bidirectional", help="Two directions in every layer.")]
Dtype = Annotated[str, typer.Option("--dtype", metavar="TYPE", help="float32, float64 or float16.")]
Target = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="The safetensors file to write; Keras' own format where it ends with .weights.h5.",
        show_default=False,
    ),
]
Framework = Annotated[
    str,
    typer.Option(
        "--framework",
        metavar="NAME",
        help="torch, keras, linen, nnx, equinox, haiku or canonical.",
        autocompletion=options.frameworks,
        show_default=False,
    ),
]


def command(
    file: options.File,
    framework: Framework,
    input_size: Input,
    hidden_size: Hidden,
    output: Target,
    seed: Seed = 0,
    bidirectional: Both = False,
    dtype: Dtype = "float32",
    cell_file: options.CellFile = None,
) -> int:
    """Write the weights that a spec describes, in a framework's names and layout.

    The framework need not be installed. The numbers are those that critinit.apply writes with that seed. What was
    written is listed on standard output, tensor by tensor.
    """
    from critinit.weights.materializing import SAFETENSORS, materialize, save
    from critinit.errors import ArgumentError
    from critinit.tensors.layouts import layouts
    from critinit_cli.reading import read_spec
    from critinit_cli.tables import render

    if output == "-":
        raise ArgumentError("--output: found -; allowed: a file, as weights are no text")
    endings = (SAFETENSORS, *(layouts()[framework].own if framework in layouts() else ()))
    ending = next((ending for ending in endings if output.endswith(ending)), SAFETENSORS)
    if Path(output).suffix and not output.endswith(ending):
        raise ArgumentError(
            f"--output: found {output!r}; allowed for {framework}: a name that ends in {' or '.join(endings)}"
        )
    spec = read_spec(file, cell_file)
    with named_as_options():
        tensors = materialize(
            spec,
            framework,
            input_size=input_size,
            hidden_size=hidden_size,
            seed=seed,
            bidirectional=bidirectional,
            dtype=dtype,
            ending=ending,
        )
    save(output, tensors, spec=spec, framework=framework, seed=seed)
    rows = [(name, str(tuple(array.shape)), array.dtype.name) for name, array in tensors.items()]
    emit(render(f"{output}, seed {seed}", ("tensor", "shape", "type"), rows))
    emit(f"for {layouts()[framework].model}\n")
    return 0
