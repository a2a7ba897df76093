"""From pictures and numbers to the text of the page; every word that is not ours is escaped."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, NamedTuple

from critinit.spec.tables import gates_table, heading, numbers_table

if TYPE_CHECKING:
    from critinit.showing import Table
    from critinit.spec import InitSpec, Numbers

__all__ = ["Picture", "page"]


class Picture(NamedTuple):
    """A picture of the page.

    Attributes:
        name: Its kind, and its anchor on the page.
        title: Its heading.
        light: The SVG for light pages.
        dark: The SVG for dark pages.
        words: What such a picture shows, and how to read it.
        summary: This one in a sentence.
    """

    name: str
    title: str
    light: bytes
    dark: bytes
    words: str
    summary: str


_MEANINGS = {
    "second moment": "mean square of the state, per unit; much below 1e-3 the state hardly says anything",
    "cell second moment": "the same of the LSTM's cell",
    "chi": "growth per step of the squared distance of two perturbed copies; below 1 they come together",
    "time scale": "−1/ln chi: in so many steps the squared distance falls to about a third",
    "retention over T": "what T steps leave of a perturbation, squared",
    "time constant, shortest": "how many steps the quickest unit remembers",
    "time constant, median": "half of the units remember longer",
    "time constant, longest": "how many steps the slowest unit remembers",
    "Jacobian, mean squared singular value": "how one step stretches a perturbation on average; near 1 gradients stay",
    "Jacobian, variance": "how much that differs between directions; 0 with a mean of 1 is dynamical isometry",
}


def page(
    spec: InitSpec,
    layer: int,
    columns: Mapping[str, Numbers | None],
    pictures: Sequence[Picture],
    left_out: Sequence[str],
) -> str:
    """Return the page as HTML.

    Args:
        spec: The spec.
        layer: Which of its layers is shown.
        columns: Reading of the weights -> the layer's numbers.
        pictures: The pictures, in their order.
        left_out: Lines that say which pictures the cell cannot have.
    """
    files = resources.files(__package__ or "critinit_cli.report")
    template = Template(files.joinpath("page.html").read_text(encoding="utf-8"))
    title = heading(spec, layer)
    return template.substitute(
        style=files.joinpath("page.css").read_text(encoding="utf-8"),
        title=escape(title),
        numbers=_shown(numbers_table(title, columns), _MEANINGS),
        gates=_shown(gates_table(title, spec.layers[layer])),
        pictures="\n".join(_section(picture) for picture in pictures),
        contents=" · ".join(f'<a href="#{p.name}">{escape(p.title)}</a>' for p in pictures),
        left_out="".join(f"<p>{escape(line)}</p>" for line in left_out),
        spec=escape(spec.to_json()),
    )


def _shown(table: Table, meanings: Mapping[str, str] | None = None) -> str:
    """The table and what stands below it; ``meanings``: what stands below the label of a row."""
    small = {label: f"<small>{escape(words)}</small>" for label, words in (meanings or {}).items()}
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.columns)
    body = "\n".join(
        f'<tr><th scope="row">{escape(first)}{small.get(first, "")}</th>{"".join(map(_cell, rest))}</tr>'
        for first, *rest in table.rows
    )
    below = "".join(f"<p>{escape(line)}</p>" for line in table.below)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>\n{below}'


def _cell(text: str) -> str:
    return f"<td>{escape(text).replace(' ± ', '&nbsp;±&nbsp;')}</td>"


def _section(picture: Picture) -> str:
    light, dark = (base64.b64encode(svg).decode("ascii") for svg in (picture.light, picture.dark))
    return f"""<section id="{escape(picture.name)}">
<h2>{escape(picture.title)}</h2>
<figure><picture>
<source media="(prefers-color-scheme: dark)" srcset="data:image/svg+xml;base64,{dark}">
<img src="data:image/svg+xml;base64,{light}" alt="{escape(picture.summary)}">
</picture></figure>
<p>{escape(picture.words)}</p>
<p class="numbers">{escape(picture.summary)}</p>
</section>"""
