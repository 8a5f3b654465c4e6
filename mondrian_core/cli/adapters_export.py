"""`mondrian adapters export`: a version for another registry, or for other tools."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from mondrian_core.cli.options import settings_from_options
from mondrian_core.cli.terminal_output import display_number, print_result
from mondrian_core.prompts import AdvisorPrompt, critique_messages
from mondrian_core.registry import AdapterVersion, Registry
from mondrian_core.settings import validate_advisor_id

EXPORT_FORMATS = ("archive", "mlx", "peft", "merged")
_PHOTOGRAPHS, _SEED = 3, 71


def export_adapter_command(options: Namespace) -> int:
    """Copy a version out: an archive for `adapters import`, or a folder for other tools."""
    validate_advisor_id(options.advisor)
    settings = settings_from_options(options)
    registry = Registry(settings.adapters_root)
    out = Path(options.out)
    if options.format == "archive":
        value: dict[str, Any] = {"archive": str(registry.export(options.advisor, options.version, out))}
    else:
        version = registry.get(options.advisor, options.version)
        value = {
            "folder": str(out.resolve()),
            "format": options.format,
            **_export_to_folder(version, settings.base, options.format, out.resolve()),
        }

    def draw(console: Console) -> None:
        console.print(f"Written: {value.get('archive') or value['folder']}", markup=False)
        if "parity" in value:
            told = {name: display_number(found) for name, found in value["parity"].items()}
            console.print(
                "  merged weights against base with adapter: {same_answers} of {photographs} answers equal, "
                "largest difference of a log-probability {log_probability_difference}; rounding changed "
                "{delta_error} of what the adapter adds".format(**told)
            )

    print_result(options.json, value, draw)
    return 0


def _base_model_for_export(version: AdapterVersion, given: str) -> str:
    """The base to load for a version: the given one when it is the same, else the one that the manifest names."""
    from mondrian_core.models.base_model import base_fingerprint
    from mondrian_core.models.lora.adapter_inspection import local_base_path

    named = (version.manifest.get("base") or {}).get("name")
    folder = local_base_path(given)
    if named is None or (folder is not None and base_fingerprint(str(folder)) == version.base_fingerprint):
        return given
    return str(named)


def _export_to_folder(version: AdapterVersion, base_name: str, form: str, out: Path) -> dict[str, Any]:
    from mondrian_core.models import adapter_export as exporting
    from mondrian_core.models.base_model import load_base

    if form == "mlx":
        exporting.export_mlx_adapter(version.path, out)
        return {}
    base = load_base(_base_model_for_export(version, base_name))
    if form == "peft":
        exporting.export_peft_adapter(base, version.path, out)
        return {}
    from mondrian_core.mini import rendered_photographs

    messages = critique_messages(AdvisorPrompt(version.advisor, version.advisor))
    questions = [(messages, image) for image in rendered_photographs(_PHOTOGRAPHS, seed=_SEED)]
    return {"parity": asdict(exporting.export_merged_model(base, version.path, out, questions))}
