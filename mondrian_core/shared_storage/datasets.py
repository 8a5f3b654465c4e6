"""Dataset versions in shared storage, so that any machine can train on them without photographs or database.

What is published is the version's folder as it was built: reduced JPEG variants, critiques, prompts and the manifest
with relative names. Originals, their EXIF data and the database stay where they are.
"""

from __future__ import annotations

from pathlib import Path

from mondrian_core.errors import BadInput
from mondrian_core.shared_storage.publication import SharedStorage, require_name


def publish_dataset(storage: SharedStorage, folder: Path) -> str:
    """Publish a finished dataset version (`datasets/<advisor>/<digest>/`); gives its name in the storage.

    Raises:
        Unreachable: the storage does not answer.
    """
    name = _name(folder.parent.name, folder.name)
    if storage.read(name) is None:
        files = {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.is_symlink() and not path.name.startswith(".")
        }
        storage.publish(name, files)
    return name


def fetch_dataset(storage: SharedStorage, workspace: Path, advisor: str, digest: str) -> Path:
    """The folder of a dataset version in a workspace; downloaded and verified when it is not there.

    Raises:
        BadInput: nobody has published it.
        DamagedPublication: a published file is missing or damaged.
        Unreachable: the storage does not answer.
    """
    folder = workspace / "datasets" / require_name(advisor) / require_name(digest)
    if not (folder / "manifest.json").is_file():
        publication = storage.read(_name(advisor, digest))
        if publication is None:
            raise BadInput(
                f"The dataset {digest[:12]} of '{advisor}' is neither in this workspace nor in {storage.store.url}.",
                f"Run `mondrian dataset --advisor {advisor}` on the machine with the photographs.",
            )
        storage.fetch_folder(publication, folder)
    return folder


def _name(advisor: str, digest: str) -> str:
    return f"datasets/{require_name(advisor)}/{require_name(digest)}"
