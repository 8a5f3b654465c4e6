"""Task that notifies the person at this machine. The text is data: no shell, no AppleScript and no markup reads it."""

from __future__ import annotations

import html
import platform
import shutil
import subprocess

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from mondrian_core.markdown import escape_markdown
from tasks.reporting import artifact_key, publish_markdown_artifact

APPLICATION = "Mondrian"
MAX_TITLE, MAX_MESSAGE = 120, 600  # characters; more is not shown by any desktop
TIMEOUT_SECONDS = 15.0
# The texts are arguments of the script. The application's name comes first, so that none of them is read as an option.
APPLE_SCRIPT = (
    "on run texts",
    "display notification (item 3 of texts) with title (item 1 of texts) subtitle (item 2 of texts)",
    "end run",
)


@task(name="notify", timeout_seconds=60, cache_policy=NO_CACHE)
def notify_task(title: str, message: str, link: str = "") -> bool:
    """Show a notification; True when the desktop took it. Otherwise the text is published and logged."""
    text = "\n".join(part for part in (message, link) if part)
    if show_on_desktop(title, text):
        return True
    get_run_logger().warning("%s %s", title, text)
    publish_markdown_artifact(
        artifact_key("notification"), f"# {escape_markdown(title)}\n\n{escape_markdown(text)}\n", title
    )
    return False


def show_on_desktop(title: str, message: str) -> bool:
    """Show a notification with the system's own command; False without one, or without a desktop."""
    command = notification_command(title, message)
    if command is None or shutil.which(command[0]) is None:
        return False
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def notification_command(title: str, message: str, system: str | None = None) -> list[str] | None:
    """The command that shows a notification on this system; None when there is none."""
    title, message = _printable(title, MAX_TITLE), _printable(message, MAX_MESSAGE)
    match system or platform.system():
        case "Darwin":
            return ["osascript", *(word for line in APPLE_SCRIPT for word in ("-e", line)), APPLICATION, title, message]
        case "Linux":  # notification servers read the body as markup
            return ["notify-send", f"--app-name={APPLICATION}", "--", title, html.escape(message, quote=False)]
        case _:
            return None


def _printable(text: str, length: int) -> str:
    """Without control characters, which end arguments or confuse terminals; line breaks are kept."""
    kept = "".join(each if each.isprintable() or each == "\n" else " " for each in text)
    return kept if len(kept) <= length else f"{kept[: length - 1]}…"
