"""``critinit materialize``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from critinit_cli import codes, options, registered
from critinit_cli.output import emit

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "materialize"
EXAMPLES = """\b
Examples:
  critinit materialize spec.json --framework torch --input-size 10 --hidden-size 128 -o gru.safetensors
  critinit materialize spec.json --framework keras --input-size 10 --hidden-size 128 --seed 1 -o gru.weights.h5
"""

Input = Annotated[
    int,
    typer.Option("--input-size", metavar="M", help="Numbers in one input.", parser=options.integer, show_default=False),
]
Hidden = Annotated[
    int, typer.Option("--hidden-size", metavar="H", help="Hidden units.", parser=options.integer, show_default=False)
]
Seed = Annotated[int, typer.Option("--seed", metavar="S", help="Seed of all that is drawn.", parser=options.integer)]
Both = Annotated[bool, typer.Option("--bidirectional", help="Two directions in every layer.")]
Window = Annotated[
    str | None,
    typer.Option(
        "--window",
        metavar="SIZES",
        help="Window of a convolutional layer's kernels, such as 3x3; input and hidden size are then its channels and "
        "filters.",
        show_default=False,
    ),
]
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
        help="{frameworks}.",
        autocompletion=options.completion(registered.frameworks),
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
    window: Window = None,
    cell_file: options.CellFile = None,
) -> int:
    """Write the weights that a spec describes, in a framework's names and layout.

    The framework need not be installed. The numbers are those that critinit.apply writes with that seed. What was
    written is listed on standard output, tensor by tensor.
    """
    from critinit.tensors.layouts import LAYOUTS
    from critinit.weights.materializing import materialize, save
    from critinit_cli.reading import read_spec
    from critinit_cli.tables import render

    layout = LAYOUTS.get(framework, where="framework")
    ending = _ending(output, framework, tuple(layout.formats))
    spec = read_spec(file, cell_file)
    tensors = materialize(
        spec,
        framework,
        input_size=input_size,
        hidden_size=hidden_size,
        seed=seed,
        bidirectional=bidirectional,
        dtype=dtype,
        ending=ending,
        window=_sizes(window),
    )
    save(output, tensors, spec=spec, framework=framework, seed=seed)
    rows = [(name, str(tuple(array.shape)), array.dtype.name) for name, array in tensors.items()]
    emit(render(f"{output}, seed {seed}", ("tensor", "shape", "type"), rows))
    emit(f"for {layout.model}\n")
    return codes.GOOD


def _sizes(window: str | None) -> tuple[int, ...]:
    """The sizes in "3x3"."""
    from critinit.errors import ArgumentError

    sides = [] if window is None else window.split("x")
    if not all(side.isdigit() and int(side) for side in sides):
        raise ArgumentError("window", found=repr(window), allowed="sizes with an x between, such as 3x3")
    return tuple(map(int, sides))


def _ending(output: str, framework: str, own: tuple[str, ...]) -> str:
    """The ending that says which format the file has; ``own``: those of the framework's own formats."""
    from critinit.errors import ArgumentError
    from critinit.weights.materializing import SAFETENSORS

    if output == "-":
        raise ArgumentError("output", found="-", allowed="a file, as weights are no text")
    endings = (SAFETENSORS, *own)
    ending = next((ending for ending in endings if output.endswith(ending)), None)
    if ending is None and Path(output).suffix:
        allowed = f"for {framework} a name that ends in {' or '.join(endings)}"
        raise ArgumentError("output", found=repr(output), allowed=allowed)
    return SAFETENSORS if ending is None else ending
