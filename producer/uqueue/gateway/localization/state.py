"""Where the routes find the localizer of their gateway."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from uqueue.gateway.localization.service import Localizer


async def _localizer(request: Request) -> Localizer:
    return cast(Localizer, request.app.state.localizer)


LocalizerState = Annotated[Localizer, Depends(_localizer)]
