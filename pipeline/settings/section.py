"""What all sections of the settings share, and the types of their values."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from pipeline.credentials import hidden

_SECRETS: Final = frozenset({"password", "token", "login", "camera_login"})

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
PositiveSeconds = Annotated[float, msgspec.Meta(gt=0)]


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all sections."""

    def __repr__(self) -> str:
        """Return the section without its secrets, since settings are logged."""
        shown = (
            (name, "***" if name in _SECRETS and value else hidden(value) if isinstance(value, str) else value)
            for name, value in msgspec.structs.asdict(self).items()
        )
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown)})"
