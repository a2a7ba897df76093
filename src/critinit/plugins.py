"""Registries: how cells, schemes, distributions and frameworks are named, found and added.

Every kind of thing that can be added has one ``Registry``.  It holds critinit's own members, those that were registered
in this process, and those of installed packages, which publish them under an entry-point group (the entry point's name
is the member's name).  A package's member is loaded when it is asked for.  Of several members of one name, critinit's
own counts, then the registered one.

One policy for a member that fails to load or is not valid: it is skipped, a ``PluginWarning`` names it and the reason,
and everything else works.  A file that the user names is different: the user asked for it, so it raises.

Registering and reading a spec are separate: a spec holds names and never a file, so reading one runs no code.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Generic, TypeVar

from critinit import files
from critinit.errors import ArgumentError, CritinitError, FileError, PluginError, PluginWarning

__all__ = ["Registry", "file_and_name", "is_file"]

T = TypeVar("T")

_MOST_BYTES = 2**20
"""A Python file of more bytes (1 MiB) is not one that somebody wrote; it is refused unread."""
_SUFFIX = ".py"
_CLOSE_MATCHES = 0.6
"""How alike a name must be to be suggested, from 0 to 1: difflib's own default."""


def is_file(name: str) -> bool:
    """Return whether ``name`` names a file, ``own.py`` or ``own.py:Name``, and not a member."""
    path, _ = file_and_name(name)
    return path.endswith(_SUFFIX) or os.sep in path or "/" in path


def file_and_name(name: str) -> tuple[str, str | None]:
    """Split ``own.py:Name`` into the path and the name within it; a path may have colons of its own."""
    path, colon, chosen = name.rpartition(":")
    return (path, chosen) if colon and path.endswith(_SUFFIX) else (name, None)


class Registry(Generic[T]):
    """The known members of one kind, by name.

    Args:
        kind: What a member is called in messages, such as "cell".
        group: The entry-point group in which packages publish members.
        built_in: critinit's own members.
        checked: Takes what a user or package offers and the file or package that it comes from; returns the name and
            the valid member, or raises ``CritinitError``.
        offered: Whether an object in a user's file is a member, for ``load_file``.
        file_hint: What a file with a member must hold, for messages.
    """

    def __init__(
        self,
        kind: str,
        *,
        group: str,
        built_in: Mapping[str, T],
        checked: Callable[[object, str], tuple[str, T]],
        offered: Callable[[object], bool] = lambda item: False,
        file_hint: str = "",
    ) -> None:
        self.kind, self.group, self.built_in = kind, group, dict(built_in)
        self._checked, self._offered, self._file_hint = checked, offered, file_hint
        self._registered: dict[str, T] = {}
        self._broken: dict[str, str] = {}

    def register(self, item: object, source: str = "") -> T:
        """Make a member known by its name, from now on in this process, and return it as it will be used.

        Args:
            item: The member.
            source: The file that it comes from, for messages.

        Raises:
            CritinitError: It is not valid, or has the name of one of critinit's own.
        """
        return self._add(item, source)[1]

    def _add(self, item: object, source: str) -> tuple[str, T]:
        """Register a member; return its name, and the member as it will be used."""
        name, member = self._checked(item, source)
        if self.built_in.get(name, member) is not member:
            allowed = f"a name that none of critinit's own {self.kind}s has"
            raise PluginError(f"{self.kind} name", found=repr(name), allowed=allowed, source=source)
        self._registered[name] = member
        self._broken.pop(name, None)
        return name, member

    def names(self) -> tuple[str, ...]:
        """Return the names of all members, critinit's own first; of packages also those that are not loaded yet."""
        known = dict.fromkeys((*self.built_in, *sorted({*self._registered, *self._points()})))
        return tuple(name for name in known if name not in self._broken)

    def find(self, name: str) -> T | None:
        """Return the member of that name, or None; an installed package that has it is loaded now."""
        for known in (self.built_in, self._registered):
            if name in known:
                return known[name]
        return None if name in self._broken else self._installed(name)

    def get(self, name: str, *, where: str | None = None) -> T:
        """Return the member of that name.

        Args:
            name: The member's name.
            where: The argument that held it, for the message; the registry's kind unless given.

        Raises:
            ArgumentError: There is none; the message lists the names and suggests the closest.
        """
        found = self.find(name) if isinstance(name, str) else None
        if found is None:
            shown = repr(name)[:60]
            raise ArgumentError(where or self.kind, found=shown, allowed=self.allowed(), hint=self.hint(name))
        return found

    def allowed(self) -> str:
        """Return the names, for messages, and how to bring one of one's own."""
        own = f", or a Python file with a {self.kind} of your own" if self._file_hint else ""
        return f"{', '.join(self.names())}{own}"

    def hint(self, name: object) -> str:
        """Return which name may be meant, or how a file is loaded, and which installed members were skipped."""
        return "; ".join((*self._meant(name), *(f"skipped {broken}: {why}" for broken, why in self._broken.items())))

    def _meant(self, name: object) -> Iterator[str]:
        """The known name that is most like ``name``, or the function that loads the file of that name."""
        if not isinstance(name, str):
            return
        if self._file_hint and is_file(name):
            yield f"critinit.load_{self.kind}({name!r}) runs the file and makes its {self.kind} known"
            return
        known = {known.lower(): known for known in self.names()}
        for close in difflib.get_close_matches(name.lower(), known, 1, _CLOSE_MATCHES):
            yield f"did you mean {known[close]!r}?"

    def loaded(self) -> Mapping[str, T]:
        """Return every member by name, installed packages loaded; what fails to load is skipped with a warning."""
        members = {name: self.find(name) for name in self.names()}
        return {name: member for name, member in members.items() if member is not None}

    def load_file(self, name: str) -> T:
        """Register the member in a Python file, ``own.py`` or ``own.py:Name``.  RUNS THE FILE.

        Args:
            name: The file, and the name of the object in it where it has several.

        Raises:
            FileError: The file cannot be read.
            CritinitError: It does not run, holds no member or several, or one that is not valid.
        """
        return self._add_file(name)[1]

    def _add_file(self, name: str) -> tuple[str, T]:
        """Register the member in a file, as ``load_file`` does; return its name too."""
        path, chosen = file_and_name(name)
        module = _run(path, self._file_hint)
        members = vars(module).items()
        offered = {key: item for key, item in members if self._offered(item) and self._is_own(item, module)}
        if chosen is not None:
            if chosen not in offered:
                allowed = ", ".join(offered) or "none"
                raise PluginError(found=f"no {self.kind} {chosen}", allowed=allowed, source=path)
            return self._add(offered[chosen], path)
        once = {id(item): (key, item) for key, item in reversed(offered.items())}  # an object may have two names
        offered = dict(reversed(once.values()))
        named = {key: item for key, item in offered.items() if hasattr(item, "name")} or offered
        if not named:
            raise PluginError(found=f"no {self.kind}", allowed=self._file_hint, source=path)
        if len(named) > 1:
            allowed = f"one, or {path}:{next(iter(named))}"
            raise PluginError(found=f"several {self.kind}s ({', '.join(named)})", allowed=allowed, source=path)
        return self._add(next(iter(named.values())), path)

    def name_of(self, name: str) -> str:
        """Return the name that ``name`` means: itself, or that of the member in the file that it names; RUNS IT."""
        return self._add_file(name)[0] if is_file(name) else name

    def _is_own(self, item: object, module: ModuleType) -> bool:
        """Whether an object in a file was made there, and not imported from elsewhere."""
        if isinstance(item, type):
            return item.__module__ == module.__name__
        return all(item is not member for member in self.built_in.values())

    def _points(self) -> Mapping[str, metadata.EntryPoint]:
        return _published(self.group, tuple(sys.path), metadata.entry_points)

    def _installed(self, name: str) -> T | None:
        point = self._points().get(name)
        if point is None:
            return None
        source = f"{self.kind} {name} of {point.value}"
        try:
            own, member = self._checked(point.load(), source)
            if own != name:
                raise PluginError("name", found=repr(own), allowed="that of its entry point")
        except Exception as error:  # a package's import can raise anything
            reason = f"{type(error).__name__}: {error}"
            if isinstance(error, CritinitError):
                reason = str(error.replace(source=""))
            self._broken[name] = " ".join(reason.split())[:200]
            warnings.warn(f"{source} was skipped: {self._broken[name]}", PluginWarning, stacklevel=2)
            return None
        self._registered[name] = member
        return member


@lru_cache(maxsize=32)
def _published(
    group: str, path: tuple[str, ...], entry_points: Callable[..., Iterable[metadata.EntryPoint]]
) -> Mapping[str, metadata.EntryPoint]:
    """The entry points of a group by name; all installed packages are read, so once for each ``sys.path``."""
    return MappingProxyType({point.name: point for point in entry_points(group=group)})


def _run(path: str, allowed: str) -> ModuleType:
    """Run a Python file as a module of its own; what it prints goes to standard error."""
    try:
        source = files.read(path, _MOST_BYTES)
    except FileError as error:
        raise FileError(error.where, found=error.found, allowed=allowed, source=error.source) from None
    digest = hashlib.sha1(os.path.abspath(path).encode(), usedforsecurity=False).hexdigest()[:8]
    module = ModuleType(f"critinit_own_{Path(path).stem}_{digest}")
    module.__file__ = path
    try:
        code = compile(source, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        line = f"line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        raise PluginError(line, found=said, allowed="Python", source=path) from None
    with _in_sys_modules(module), contextlib.redirect_stdout(sys.stderr or sys.stdout):
        try:
            exec(code, module.__dict__)
        except (Exception, SystemExit) as error:
            said = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            allowed = "a file that runs by itself"
            raise PluginError(_line_in(path, error), found=said, allowed=allowed, source=path) from None
    return module


@contextlib.contextmanager
def _in_sys_modules(module: ModuleType) -> Iterator[None]:
    """Keep ``module`` in ``sys.modules`` while it runs, and from then on where it did."""
    before = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module
    try:
        yield
    except BaseException:
        if before is None:
            del sys.modules[module.__name__]
        else:
            sys.modules[module.__name__] = before
        raise


def _line_in(path: str, error: BaseException) -> str:
    """The last line of the file that the error passed through."""
    line, trace = "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = f"line {trace.tb_lineno}"
        trace = trace.tb_next
    return line
