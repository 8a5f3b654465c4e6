"""`mondrian adapters export`: a version for another registry, or for other tools."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from mondrian_core.cli.options import settings_of
from mondrian_core.cli.screen import answer, number
from mondrian_core.prompts import Voice, critique_messages
from mondrian_core.registry import Registry, Version
from mondrian_core.settings import check_advisor

FORMATS = ("archive", "mlx", "peft", "merged")
_PHOTOGRAPHS, _SEED = 3, 71


def export(options: Namespace) -> int:
    """Copy a version out: an archive for `adapters import`, or a folder for other tools."""
    check_advisor(options.advisor)
    settings = settings_of(options)
    registry = Registry(settings.adapters_root)
    out = Path(options.out)
    if options.format == "archive":
        value: dict[str, Any] = {"archive": str(registry.export(options.advisor, options.version, out))}
    else:
        version = registry.get(options.advisor, options.version)
        value = {
            "folder": str(out.resolve()),
            "format": options.format,
            **_folder(version, settings.base, options.format, out.resolve()),
        }

    def draw(console: Console) -> None:
        console.print(f"Written: {value.get('archive') or value['folder']}", markup=False)
        if "parity" in value:
            told = {name: number(found) for name, found in value["parity"].items()}
            console.print(
                "  merged weights against base with adapter: {same_answers} of {photographs} answers equal, "
                "largest difference of a log-probability {log_probability_difference}; rounding changed "
                "{delta_error} of what the adapter adds".format(**told)
            )

    answer(options.json, value, draw)
    return 0


def _base_of(version: Version, given: str) -> str:
    """The base to load for a version: the given one when it is the same, else the one that the manifest names."""
    from mondrian_core.models.base import fingerprint
    from mondrian_core.models.inspection import at_hand

    named = (version.manifest.get("base") or {}).get("name")
    folder = at_hand(given)
    if named is None or (folder is not None and fingerprint(str(folder)) == version.base_fingerprint):
        return given
    return str(named)


def _folder(version: Version, base_name: str, form: str, out: Path) -> dict[str, Any]:
    from mondrian_core.models import export as exporting
    from mondrian_core.models.base import load_base

    if form == "mlx":
        exporting.export_mlx(version.path, out)
        return {}
    base = load_base(_base_of(version, base_name))
    if form == "peft":
        exporting.export_peft(base, version.path, out)
        return {}
    from mondrian_core.mini import rendered_photographs

    messages = critique_messages(Voice(version.advisor, version.advisor))
    questions = [(messages, image) for image in rendered_photographs(_PHOTOGRAPHS, seed=_SEED)]
    return {"parity": asdict(exporting.export_merged(base, version.path, out, questions))}
