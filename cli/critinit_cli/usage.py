"""Usage: commands whose help lists what is registered, and whose errors name the options that they are about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from typer.core import TyperCommand

from critinit_cli.progress import announced
from critinit_cli.registered import filled

__all__ = ["Command", "as_option", "explain"]


class Command(TyperCommand):
    """A command whose help lists the registered names, and whose errors name options instead of arguments."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options' help, in which the registered names are filled in."""
        for parameter in self.params:
            help_text = getattr(parameter, "help", None)
            if help_text:
                parameter.help = filled(help_text)  # type: ignore[attr-defined]
        super().format_options(ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        options = {str(parameter.name): _shown(parameter) for parameter in self.params}
        with announced(str(self.name)), _naming_options(options):
            return super().invoke(ctx)


def explain(error: Any) -> str:
    """Return what one of click's usage errors says, in the form of critinit's own.

    Args:
        error: The error: an option that is missing, unknown or has a value that cannot be read.

    Returns:
        One line, which names the command whose help says more.
    """
    context = getattr(error, "ctx", None)
    path = "critinit" if context is None else context.command_path
    parameter = getattr(error, "param", None)
    if type(error).__name__ == "NoSuchOption":
        text = _unknown_option(str(error.option_name), [] if context is None else context.command.params)
    elif parameter is None:
        text = str(error.format_message())
    elif error.message:
        text = f"{_shown(parameter)}: {error.message}"
    else:  # it is missing
        allowed = filled(parameter.help or "a value")
        text = f"{_shown(parameter)}: found nothing; allowed: {allowed[0].lower()}{allowed[1:]}"
    text = text.strip().rstrip(".")
    return f"{text} See {path} --help" if text.endswith("?") else f"{text}; see {path} --help"


def as_option(where: str, options: Mapping[str, str]) -> str:
    """Return the place of an error as the user of a command knows it.

    Args:
        where: The argument of a function, and the path within it: ``input_variance``, ``padding.variance``.
        options: A command's parameters: name in Python -> option.

    Example:
        >>> options = {"padding_variance": "--padding-variance", "settings": "--set"}
        >>> [as_option(where, options) for where in ("padding.variance", "settings.T", "theory")]
        ['--padding-variance', '--set T', 'theory']
    """
    steps = where.split(".")
    for count in range(len(steps), 0, -1):
        option = options.get("_".join(steps[:count]))
        if option is not None:
            return " ".join(filter(None, (option, ".".join(steps[count:]))))
    return where


@contextmanager
def _naming_options(options: Mapping[str, str]) -> Iterator[None]:
    """Name the options in the library's errors about arguments."""
    from critinit.errors import ArgumentError, SpecError

    try:
        yield
    except ArgumentError as error:
        raise error.replace(where=as_option(error.where, options)) from None
    except SpecError as error:
        if error.source:  # it is about a file
            raise
        where = as_option(error.where, options)
        raise ArgumentError(where, found=error.found, allowed=error.allowed, hint=error.hint) from None


def _unknown_option(name: str, parameters: Sequence[Any]) -> str:
    """What is said of an option that there is not: those that may be meant, first the same one in other letters."""
    options = [option for parameter in parameters for option in parameter.opts if option.startswith("-")]
    meant = [option for option in options if option.lower() == name.lower()] or get_close_matches(name, options)
    return f"{name}: found no such option" + (f"; did you mean {' or '.join(meant)}?" if meant else "")


def _shown(parameter: Any) -> str:
    """An option's longest name; an argument's name as the help has it."""
    names: Sequence[str] = [name for name in parameter.opts if name.startswith("-")]
    return max(names, key=len) if names else str(parameter.metavar or parameter.human_readable_name)
