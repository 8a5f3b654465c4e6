"""`mondrian adapters export`: write a version for another registry, or for other tools."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console

from mondrian_core.cli.options import AdvisorOptions, settings_from_options
from mondrian_core.cli.terminal_output import display_number, print_result, show_progress
from mondrian_core.events import EventListener
from mondrian_core.prompts import AdvisorPrompt, critique_messages
from mondrian_core.registry import AdapterVersion, Registry
from mondrian_core.settings import validate_advisor_id

ExportFormat = Literal["archive", "mlx", "peft", "merged"]
_PHOTOGRAPHS, _SEED = 3, 71


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ExportOptions(AdvisorOptions):
    """Options of `mondrian adapters export`."""

    out: Annotated[Path, Parameter(help="file or folder to write")]
    format: Annotated[
        ExportFormat,
        Parameter(
            show_default=True,
            help="an archive for `adapters import`, a folder for mlx-vlm or PEFT, or the base model with the adapter "
            "merged into its weights",
        ),
    ] = "archive"


def export_adapter_command(
    version: Annotated[str, Parameter(help="a version such as v0001")], /, *, options: ExportOptions
) -> int:
    """Write a version as an archive for `adapters import`, or as a folder for other tools."""
    validate_advisor_id(options.advisor)
    settings = settings_from_options(options)
    registry = Registry(settings.adapters_root)
    if options.format == "archive":
        value: dict[str, Any] = {"archive": str(registry.export(options.advisor, version, options.out))}
    else:
        exported = registry.get(options.advisor, version)
        folder = options.out.resolve()
        with show_progress(options.json) as listen:
            written = _export_to_folder(exported, settings.base, options.format, folder, listen)
        value = {"folder": str(folder), "format": options.format, **written}

    def draw(console: Console) -> None:
        console.print(f"Written: {value.get('archive') or value['folder']}", markup=False)
        if "parity" in value:
            parity = {name: display_number(number) for name, number in value["parity"].items()}
            console.print(
                "  merged weights compared with base plus adapter: {same_answers} of {photographs} answers equal, "
                "largest difference of a log-probability {log_probability_difference}; rounding changed "
                "{delta_error} of the adapter's change".format(**parity)
            )

    print_result(options.json, value, draw)
    return 0


def _base_model_for_export(version: AdapterVersion, given: str) -> str:
    """The base to load for a version: the given one if its fingerprint matches, otherwise the manifest's."""
    from mondrian_core.models.base_model import base_fingerprint, local_base_path

    named = (version.manifest.get("base") or {}).get("name")
    folder = local_base_path(given)
    if named is None or (folder is not None and base_fingerprint(str(folder)) == version.base_fingerprint):
        return given
    return str(named)


def _export_to_folder(
    version: AdapterVersion, base_name: str, form: str, out: Path, listen: EventListener
) -> dict[str, Any]:
    from mondrian_core.models import adapter_export as exporting
    from mondrian_core.models.base_download import fetch_base
    from mondrian_core.models.base_model import load_base

    if form == "mlx":
        exporting.export_mlx_adapter(version.path, out)
        return {}
    name = _base_model_for_export(version, base_name)
    fetch_base(name, listen)
    base = load_base(name)
    if form == "peft":
        exporting.export_peft_adapter(base, version.path, out)
        return {}
    from mondrian_core.mini import rendered_photographs

    messages = critique_messages(AdvisorPrompt(version.advisor, version.advisor))
    questions = [(messages, image) for image in rendered_photographs(_PHOTOGRAPHS, seed=_SEED)]
    return {"parity": asdict(exporting.export_merged_model(base, version.path, out, questions))}
