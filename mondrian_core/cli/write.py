"""`mondrian write`: write critiques in the terminal, or save one from a file."""

from __future__ import annotations

import json
import sys
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape

from mondrian_core.cli.options import AdvisorOptions, settings_from_options
from mondrian_core.cli.terminal_output import make_console, print_result, show_recording
from mondrian_core.cli.write_session import WriteSession
from mondrian_core.errors import BadInput
from mondrian_core.registry import Registry
from mondrian_core.settings import Settings, validate_advisor_id
from mondrian_core.store import Store
from mondrian_core.writing.critique_entry import parse_entry
from mondrian_core.writing.writing_desk import WritingDesk

MAX_CRITIQUE_BYTES = 1_000_000


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class WriteOptions(AdvisorOptions):
    """Options of `mondrian write`. Without any, in a terminal, it asks."""

    photograph: Annotated[
        str | None, Parameter(help="write about this one: its path in the workspace, its name, or its SHA-256")
    ] = None
    file: Annotated[
        Path | None,
        Parameter(name=("--from",), help="save the critique in this JSON file (-: standard input) without asking"),
    ] = None
    next: Annotated[
        bool, Parameter(help="only print which photograph is next, why, and what the critiques are enough for")
    ] = False


def write_command(*, options: WriteOptions) -> int:
    """Write critiques of the photographs that teach most; exit status 1 when none waits."""
    settings = settings_from_options(options)
    advisor = validate_advisor_id(options.advisor)
    settings.require_workspace()
    show_recording(settings, options.json)
    with Store(settings.database, read_only=options.next) as store:
        desk = WritingDesk(store, settings.root, advisor, Registry(settings.adapters_root))
        if options.file is not None:
            return _save_from_file(options, desk, options.file)
        if options.next or options.json or not sys.stdin.isatty():
            return _print_next(options, desk)
        return _write_interactively(options, desk, settings)


def _print_next(options: WriteOptions, desk: WritingDesk) -> int:
    found = desk.require_next()
    photograph, progress = desk.photograph(found.sha256), desk.progress()
    value = {
        "photograph": photograph.image_path,
        "sha256": photograph.sha256,
        "why": found.why,
        "entry": desk.current(found.sha256).entry.model_dump(),
        "progress": progress.as_dict(),
        "anchoring": desk.anchoring().as_dict(),
    }

    def draw(console: Console) -> None:
        console.print(f"[bold]{escape(photograph.image_path)}[/]")
        console.print(f"{escape(found.why)}\n{progress.sentence}")

    print_result(options.json, value, draw)
    return 0


def _save_from_file(options: WriteOptions, desk: WritingDesk, file: Path) -> int:
    if options.photograph is None:
        raise BadInput("--from needs the photograph.", "Add --photograph PATH; `--next` prints the one that is next.")
    sha256 = photograph_by_name(desk, options.photograph)
    entry = parse_entry(_read_json(file))
    saved = desk.save(sha256, entry, desk.current(sha256).revision, "file")
    progress = desk.progress()
    path = desk.photograph(sha256).image_path
    value = {"photograph": path, "sha256": sha256, "profile": saved.profile.id, "progress": progress.as_dict()}

    def draw(console: Console) -> None:
        console.print(
            f"Saved the critique of {escape(path)}, grade {saved.profile.overall_grade}.\n{progress.sentence}"
        )

    print_result(options.json, value, draw)
    return 0


def _read_json(file: Path) -> Any:
    """The value of a JSON file.

    Raises:
        BadInput: it can't be read, is too large, or is not valid JSON.
    """
    try:
        if str(file) == "-":
            data = sys.stdin.buffer.read(MAX_CRITIQUE_BYTES + 1)
        else:
            with file.open("rb") as stream:
                data = stream.read(MAX_CRITIQUE_BYTES + 1)
    except OSError as error:
        raise BadInput(f"{file} can't be read: {error.strerror}.", "Check --from.") from None
    if len(data) > MAX_CRITIQUE_BYTES:
        raise BadInput(f"{file} is larger than {MAX_CRITIQUE_BYTES:,} bytes.", "--from takes one critique.")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{file} is not valid JSON: {error}.", "Fix it, or leave --from out to be asked.") from None


def photograph_by_name(desk: WritingDesk, name: str) -> str:
    """The SHA-256 of the photograph with this path in the workspace, file name, or (beginning of a) SHA-256.

    Raises:
        BadInput: none or several match.
    """
    given = name.replace("\\", "/").removeprefix("./")
    found = [
        sha256
        for sha256, each in desk.photographs.items()
        if given in (each.image_path, each.image_path.removeprefix("source/"), sha256)
        or (len(given) >= 8 and sha256.startswith(given))
    ]
    found = found or [sha256 for sha256, each in desk.photographs.items() if Path(each.image_path).name == given]
    if not found:
        absolute = Path(name).resolve()
        found = [
            sha256 for sha256, each in desk.photographs.items() if (desk.root / each.image_path).resolve() == absolute
        ]
    if len(found) == 1:
        return found[0]
    if found:
        paths = ", ".join(desk.photographs[sha256].image_path for sha256 in found[:5])
        raise BadInput(f"{len(found)} photographs are named '{name[:120]}'.", f"Name one of {paths}.")
    raise BadInput(
        f"'{desk.advisor}' has no photograph '{name[:120]}'.",
        f"Import it first: `mondrian import FOLDER --advisor {desk.advisor}`.",
    )


def _write_interactively(options: WriteOptions, desk: WritingDesk, settings: Settings) -> int:
    screen = make_console()
    chosen = photograph_by_name(desk, options.photograph) if options.photograph else desk.require_next().sha256

    def show(path: Path) -> None:
        if not webbrowser.open(path.as_uri()):
            screen.print(f"Open {escape(str(path))}.")

    session = WriteSession(
        lambda: WritingDesk(desk.store, desk.root, desk.advisor, Registry(settings.adapters_root)),
        screen,
        input,
        show,
    )
    written = session.run(chosen)
    screen.print(f"{written} saved. {session.desk.progress().sentence}")
    return 0
