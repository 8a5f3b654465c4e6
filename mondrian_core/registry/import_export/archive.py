"""Pack a version into one tar file, and unpack an archive from elsewhere safely."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mondrian_core.errors import BadAdapter
from mondrian_core.files import replace_atomic
from mondrian_core.registry.version import MANIFEST, AdapterVersion, is_safe_file_name

MAX_UNPACKED_BYTES = 8 << 30  # an adapter of the largest supported base is far smaller
_BLOCK = 1 << 20


def pack_version(version: AdapterVersion, out: Path) -> Path:
    """Write `out`, or `<advisor>-<version>.tar` in the folder `out`; a version always gives the same bytes."""
    target = out / f"{version.advisor}-{version.version}.tar" if out.is_dir() else out

    def write(temporary: Path) -> None:
        with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as archive:
            for name in [*sorted(version.manifest["files"]), MANIFEST]:
                facts = tarfile.TarInfo(f"{version.advisor}/{version.version}/{name}")
                facts.size, facts.mode = (version.path / name).stat().st_size, 0o444
                with (version.path / name).open("rb") as stream:
                    archive.addfile(facts, stream)

    replace_atomic(target, write)
    return target


@contextmanager
def unpacked_folder(source: Path) -> Iterator[Path]:
    """A folder with the files of `source`: the folder itself, or an archive's files in a temporary one.

    Raises:
        BadAdapter: neither a folder nor an archive of regular files in one folder.
    """
    if source.is_dir():
        yield source
        return
    with TemporaryDirectory(prefix="mondrian-import-") as temporary:
        _unpack(source, Path(temporary))
        yield Path(temporary)


def _unpack(source: Path, temporary: Path) -> None:
    advice = "Name an adapter's folder, or an archive by `mondrian adapters export`."
    try:
        with tarfile.open(source) as archive:
            folders, size = set(), 0
            for member in archive:
                if member.isdir():
                    continue
                folder, _, name = member.name.rpartition("/")
                folders.add(folder)
                size += member.size
                stream = archive.extractfile(member) if member.isreg() else None
                if stream is None or not is_safe_file_name(name) or ".." in folder.split("/") or folder.startswith("/"):
                    raise BadAdapter(
                        f"{source} holds '{member.name}', which is not a regular file of a version.", advice
                    )
                if size > MAX_UNPACKED_BYTES or len(folders) > 1 or (temporary / name).exists():
                    raise BadAdapter(f"{source} holds more than one version of an adapter.", advice)
                with stream, (temporary / name).open("wb") as target:
                    while block := stream.read(_BLOCK):
                        target.write(block)
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and source.exists() and not isinstance(error, tarfile.TarError):
            raise
        raise BadAdapter(f"{source} is not a readable archive of an adapter: {error}.", advice) from error
