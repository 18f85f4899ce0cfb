"""What every section of a policy file is, and what several of them say."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from gateway_guard.policy import units

Share = Annotated[float, BeforeValidator(units.share), Field(ge=0, le=1), WithJsonSchema(units.SHARE_SCHEMA)]


class Rules(BaseModel):
    """Strict, frozen, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
