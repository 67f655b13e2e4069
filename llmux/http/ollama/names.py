"""Names of models as Ollama's clients write them: `:latest` may stand at the end of any, and means nothing."""

from typing import TYPE_CHECKING

from llmux.failures import ClientFailure

if TYPE_CHECKING:
    from llmux.actors.system import System

LATEST = ":latest"


def model_named(name: str | None, system: "System") -> str:
    """The model as the gateway knows it. Raises ClientFailure when none is named."""
    if not name:
        raise ClientFailure("model is required", param="model", code="missing_model")
    if name.endswith(LATEST) and all(entry.id != name for entry in system.models()):
        return name.removesuffix(LATEST)
    return name
