"""What goes wrong between this machine and the hub of base models, in words that say what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mondrian_core.errors import BaseModelUnavailable, MondrianError
from mondrian_core.models.checkpoint_files import problems_as_text
from mondrian_core.models.hub_snapshot import HubSnapshot
from mondrian_core.next_steps import base_download_command


@contextmanager
def explain_hub_errors(name: str, found: HubSnapshot) -> Iterator[None]:
    """Turn the errors of the hub's client into one sentence with a next step.

    Args:
        name: hub ID of the base model.
        found: what is on this machine of it.

    Raises:
        BaseModelUnavailable: the hub refuses the model, or doesn't answer.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise BaseModelUnavailable(
            f"The base model {name} is gated: the hub gives it only to users who accepted its conditions.",
            "Accept them on its page of the hub, log in with `hf auth login` (or set HF_TOKEN), and run "
            f"{base_download_command(name)} again.",
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise BaseModelUnavailable(
            f"The hub has no model {name}, or it is private.",
            "Check the spelling of --base-model or MONDRIAN_BASE_MODEL; for a private model, log in with "
            "`hf auth login` (or set HF_TOKEN).",
        ) from error
    except OSError as error:  # of the hub's client, of HTTP, or of the disk
        if error.errno is not None and not isinstance(error, ConnectionError):
            raise
        raise _unreachable(name, found, error) from error
    except MondrianError:
        raise
    except Exception as error:
        raise _unreachable(name, found, error) from error


def _unreachable(name: str, found: HubSnapshot, error: Exception) -> BaseModelUnavailable:
    from huggingface_hub import constants

    state = "isn't on this machine and can't be downloaded"
    if found.problems:
        state = f"is incomplete on this machine ({problems_as_text(found.problems)}) and can't be completed"
    if constants.is_offline_mode():
        return BaseModelUnavailable(
            f"The base model {name} {state}, because HF_HUB_OFFLINE is set.",
            f"Unset HF_HUB_OFFLINE and run {base_download_command(name)}.",
        )
    first = next(iter(str(error).splitlines()), "")[:200]
    return BaseModelUnavailable(
        f"The base model {name} {state} from {constants.ENDPOINT} ({type(error).__name__}{first and f': {first}'}).",
        f"Check the network and run {base_download_command(name)}; complete files are kept. "
        "Without a network, use the bundled base: MONDRIAN_BASE_MODEL=mini.",
    )
