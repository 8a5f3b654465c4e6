"""`mondrian advisors`: add, list, show, edit and remove."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mondrian_core.cli.options import NO_OPTIONS, CommandOptions, settings_from_options
from mondrian_core.cli.terminal_output import print_next_step, print_result, show_recording
from mondrian_core.errors import BadInput
from mondrian_core.next_steps import AdvisorCounts, add_advisor_step, next_step_for, quoted_command
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.registry import Registry

if TYPE_CHECKING:
    from mondrian_core.store import Store

MAX_PROMPT_FILE_BYTES = 1_000_000

_PromptFile = Annotated[Path | None, Parameter(help="text file with the system message, instead of name and biography")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AddAdvisorOptions(CommandOptions):
    """Options of `mondrian advisors add`."""

    id: Annotated[str | None, Parameter(help="ID for commands and folders (default: derived from the name)")] = None
    bio: Annotated[str, Parameter(help="a few sentences: whose eye it is, what counts")] = ""
    prompt_file: _PromptFile = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EditAdvisorOptions(CommandOptions):
    """Options of `mondrian advisors edit`."""

    name: Annotated[str | None, Parameter(help="new name")] = None
    bio: Annotated[str | None, Parameter(help="new biography")] = None
    prompt_file: _PromptFile = None
    no_prompt: Annotated[bool, Parameter(help="use the system message made from name and biography again")] = False


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RemoveAdvisorOptions(CommandOptions):
    """Options of `mondrian advisors remove`."""

    keep_data: Annotated[
        bool, Parameter(help="remove the entry although critiques, photographs or adapters exist; they stay")
    ] = False


def add_advisor_command(
    name: Annotated[str, Parameter(help="as the advisor is called, such as 'Ansel Adams'")],
    /,
    *,
    options: AddAdvisorOptions = AddAdvisorOptions(),
) -> int:
    """Add an advisor and say which command comes next."""
    from mondrian_core import advisors

    prompt = _read_prompt(options.prompt_file)
    with _opened(options, write=True) as (store, registry):
        identity = advisors.add_advisor(store, name, advisor_id=options.id, bio=options.bio, prompt=prompt or "")
        added = store.advisor(identity)
        counts = advisors.count_for_advisor(store, registry, identity)

    def draw(console: Console) -> None:
        console.print(f"Added {escape(added.name)} with the ID {identity}.")
        if advisors.has_data(counts):
            console.print(f"The workspace already has {advisors.describe_counts(counts)} of '{identity}'.")
        print_next_step(console, options, next_step_for(counts))

    print_result(options.json, _advisor_as_dict(added, counts), draw)
    return 0


def list_advisors_command(*, options: CommandOptions = NO_OPTIONS) -> int:
    """List the advisors; exit status 1 when there is none."""
    from mondrian_core import advisors

    with _opened(options) as (store, registry):
        found = store.advisors()
        tally = advisors.workspace_tally(store)
        counted = [advisors.counts_of_advisor(tally, registry, each.advisor) for each in found]

    def draw(console: Console) -> None:
        if not found:
            console.print("There is no advisor yet.")
            print_next_step(console, options, add_advisor_step())
            return
        table = Table(title_justify="left")
        for heading in ("ID", "name"):
            table.add_column(heading, overflow="fold")
        for heading in ("critiques", "photographs", "versions"):
            table.add_column(heading, justify="right")
        table.add_column("active version")
        for each, counts in zip(found, counted, strict=True):
            figures = (counts.critiques, counts.photographs, counts.versions)
            table.add_row(
                each.advisor, escape(each.name), *(f"{figure:,}" for figure in figures), counts.active_version or "-"
            )
        console.print(table)

    values = [_advisor_as_dict(each, counts) for each, counts in zip(found, counted, strict=True)]
    print_result(options.json, values, draw)
    return 0 if found else 1


def show_advisor_command(
    advisor: Annotated[str, Parameter(help="advisor ID, such as ansel")],
    /,
    *,
    options: CommandOptions = NO_OPTIONS,
) -> int:
    """Show an advisor, the system message of prompts, and what belongs to it."""
    from mondrian_core import advisors

    with _opened(options) as (store, registry):
        shown = store.advisor(advisor)
        counts = advisors.count_for_advisor(store, registry, advisor)

    def draw(console: Console) -> None:
        console.print(f"[bold]{escape(shown.name)}[/] ({shown.advisor})")
        if shown.bio:
            console.print(escape(shown.bio))
        origin = "its own text" if shown.prompt else "made from name and biography"
        console.print(f"System message ({origin}): {escape(shown.system_message)}")
        console.print(f"{advisors.describe_counts(counts)}; active version: {counts.active_version or 'none'}")
        print_next_step(console, options, next_step_for(counts))

    print_result(options.json, _advisor_as_dict(shown, counts), draw)
    return 0


def edit_advisor_command(
    advisor: Annotated[str, Parameter(help="advisor ID, such as ansel")],
    /,
    *,
    options: EditAdvisorOptions = EditAdvisorOptions(),
) -> int:
    """Change an advisor's name, biography or system message; the ID stays."""
    from mondrian_core import advisors

    if options.no_prompt and options.prompt_file:
        raise BadInput("--no-prompt and --prompt-file exclude each other.", "Give one of them.")
    prompt = "" if options.no_prompt else _read_prompt(options.prompt_file)
    changes = advisors.AdvisorChanges(options.name, options.bio, prompt)
    if changes == advisors.AdvisorChanges():
        raise BadInput("Nothing to change was given.", "Give --name, --bio, --prompt-file or --no-prompt.")
    with _opened(options, write=True) as (store, registry):
        after, prompt_changed = advisors.edit_advisor(store, advisor, changes)
        counts = advisors.count_for_advisor(store, registry, advisor)
    note = advisors.changed_prompt_note(counts) if prompt_changed else ""

    def draw(console: Console) -> None:
        console.print(f"Changed {escape(after.name)} ({after.advisor}).")
        print_next_step(console, options, note)

    print_result(
        options.json, {**_advisor_as_dict(after, counts), "prompt_changed": prompt_changed, "note": note}, draw
    )
    return 0


def remove_advisor_command(
    advisor: Annotated[str, Parameter(help="advisor ID, such as ansel")],
    /,
    *,
    options: RemoveAdvisorOptions = RemoveAdvisorOptions(),
) -> int:
    """Remove an advisor from the list; critiques, photographs and adapters are never deleted."""
    from mondrian_core import advisors

    with _opened(options, write=True) as (store, registry):
        counts = advisors.remove_advisor(store, registry, advisor, keep_data=options.keep_data)

    def draw(console: Console) -> None:
        console.print(f"Removed the entry '{escape(advisor)}'. Kept: {advisors.describe_counts(counts)}.")
        if advisors.has_data(counts):
            again = quoted_command("advisors", "add", "NAME", "--id", advisor)
            console.print(f"They belong to it again after {again}.")

    print_result(options.json, {"removed": advisor, "kept": asdict(counts)}, draw)
    return 0


def _advisor_as_dict(advisor: AdvisorPrompt, counts: AdvisorCounts) -> dict[str, Any]:
    return {
        "id": advisor.advisor,
        "name": advisor.name,
        "bio": advisor.bio,
        "prompt": advisor.prompt,
        "system_message": advisor.system_message,
        **{name: value for name, value in asdict(counts).items() if name != "advisor"},
        "next_step": next_step_for(counts),
    }


@contextmanager
def _opened(options: CommandOptions, *, write: bool = False) -> Iterator[tuple[Store, Registry]]:
    """The store and the registry."""
    from mondrian_core.store import Store

    settings = settings_from_options(options)
    settings.require_workspace()
    if not write:
        show_recording(settings, options.json)
    with Store(settings.database, read_only=not write) as store:
        yield store, Registry(settings.adapters_root)


def _read_prompt(path: Path | None) -> str | None:
    """The text of a prompt file.

    Raises:
        BadInput: it can't be read, is not UTF-8, or is far too long.
    """
    if path is None:
        return None
    try:
        if path.is_file() and path.stat().st_size > MAX_PROMPT_FILE_BYTES:
            raise BadInput(f"The prompt file {path} is too large.", "Give a text of a few paragraphs.")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadInput(f"The prompt file {path} can't be read: {error.strerror}.", "Check --prompt-file.") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"The prompt file {path} is not UTF-8 text.", "Save it as UTF-8 and try again.") from error
    if not text.strip():
        raise BadInput(f"The prompt file {path} is empty.", "Write the system message into it.")
    return text
