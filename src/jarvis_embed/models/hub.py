"""``models pull``: a model from the hub into a folder that is complete and verified, or absent.

huggingface-hub lists the files of the pinned commit with their digests, builds the addresses, follows proxies and
redirects, and names what went wrong. Three things are done here, because the library does them otherwise:

- Resuming. Since 1.18 it downloads into a temporary file with a random name and deletes that when a transfer breaks,
  so the next run starts from zero. Its ``http_get`` can resume, but drops up to 10 MB when the connection breaks.
- Checksums. It compares sizes; here every file is compared with the digest that the hub states for the commit.
- Silence. It sends a stored token along, and asks the hub for a list of programs to report in the user agent. A pull
  sends no token and nothing about this machine, and writes nowhere but beside its destination. Xet, the library's
  other transport, keeps a cache elsewhere and cannot resume; the hub serves the same bytes over HTTP.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from .. import home
from ..errors import DownloadFailed, WeightsDamaged
from .registry import ModelSpec
from .store import weights_missing

if TYPE_CHECKING:  # the library is slow to import, and most programs never pull
    from huggingface_hub import ModelInfo

Progress = Callable[[str, int, int], None]
CHECKSUMS: Final = "checksums.json"
_REQUIRED: Final = ("model.safetensors", "config.json", "modules.json", "tokenizer.json")
_OPTIONAL: Final = ("sentence_bert_config.json", "config_sentence_transformers.json")
_MODULE_CONFIG: Final = re.compile(r"\d+_\w+/config\.json")  # such as 1_Pooling/config.json
_ADDRESS: Final = re.compile(r"https?://(\[[0-9a-fA-F:]+\]|[\w.-]+)(:\d+)?(/\S*)?")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_WAITS: Final = (1.0, 3.0)  # seconds before each further attempt at a broken transfer


class _HubFile(NamedTuple):
    path: str
    size: int
    digest: str  # sha256 of a large (LFS) file, git sha1 of a small one


def pull(spec: ModelSpec, destination: Path, progress: Progress | None = None) -> None:
    """Download the pinned commit of ``spec`` into ``destination``; a folder that already holds it is only verified.

    Files arrive in a hidden folder beside ``destination``, which stays when a transfer breaks: the next call goes on
    where it ended. The hub is ``HF_ENDPOINT``, as it is now and not as it was at an import, or huggingface.co.

    Args:
        progress: called with a file's name, its bytes so far and its bytes in all.

    Raises:
        DownloadFailed: no connection, unknown repository or commit, wrong checksum, broken transfer, no safetensors.
        HomeLocked: another process is pulling this model.
        DiskFull, HomeNotWritable: as they say.
    """
    if destination.exists() and not (destination / CHECKSUMS).exists():
        problem = f"{destination} exists and was not made by `models pull`"
        raise DownloadFailed(problem, f"Run `jarvis-embed models remove {spec.name}`")
    with contextlib.suppress(WeightsDamaged):  # absent, or to be replaced as soon as a whole one is here
        verify(destination)
        if _read_checksums(destination)[:2] == (spec.hub_id, spec.revision):
            return
    partial = destination.with_name(f".{destination.name}.{spec.revision[:12]}.partial")
    endpoint = _endpoint()
    files = _choose(spec, endpoint, _ask(spec, endpoint))
    with home.locked(partial / ".lock", f"the download of {spec.name}"):
        for file in files:
            _fetch(spec, file, endpoint, partial / file.path, progress or (lambda _file, _done, _total: None))
        sums = {f.path: {"bytes": f.size, "sha256": home.sha256_of(partial / f.path)} for f in files}
        stated = {"model": spec.name, "repository": spec.hub_id, "revision": spec.revision, "files": sums}
        home.write_json(partial / CHECKSUMS, stated)
        _move_into_place(partial, destination)


def verify(folder: Path) -> None:
    """Check every file of a pulled model against its ``checksums.json``: one read of the weights.

    Raises:
        WeightsDamaged: a file is missing or changed, or ``checksums.json`` itself is not usable.
    """
    repository, _revision, files = _read_checksums(folder)
    again = f"Pull {repository} again with `jarvis-embed models pull`"
    for name in {*_REQUIRED, *files}:
        path = folder / name
        if name not in files or not path.is_file():
            raise WeightsDamaged(f"{folder} has no {name}", again)
        with home.reported(path):
            if (path.stat().st_size, home.sha256_of(path)) != files[name]:
                raise WeightsDamaged(f"{path} is not the file that was downloaded", again)


def _read_checksums(folder: Path) -> tuple[str, str, dict[str, tuple[int, str]]]:
    """Repository, commit, and file → (bytes, sha256)."""
    try:
        stated = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        files = {str(name): (int(sums["bytes"]), str(sums["sha256"])) for name, sums in stated["files"].items()}
        return str(stated["repository"]), str(stated["revision"]), files
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightsDamaged(f"{folder / CHECKSUMS} cannot be read", "Pull the model again") from error


def _by_folder(spec: ModelSpec) -> str:
    return f"Get the weights by `jarvis-embed models add {spec.name} FOLDER`"


def _endpoint() -> str:
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    with contextlib.suppress(ValueError):  # a port above 65535, on which the library cannot even be imported
        if _ADDRESS.fullmatch(endpoint) and urlsplit(endpoint).port != 0:
            return endpoint
    raise DownloadFailed(f"HF_ENDPOINT is {endpoint!r}, which is no address of a hub", "Correct it, or unset it")


def _connection_errors() -> tuple[type[Exception], ...]:
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # httpx's in 1.x, httpx2's in 2.x

    return HTTPError, ConnectionError  # the second where HF_HUB_OFFLINE is set


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _ask(spec: ModelSpec, endpoint: str) -> ModelInfo:
    """What the hub says of the pinned commit, in one request."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    if not _COMMIT.fullmatch(spec.revision):
        raise DownloadFailed(f"no commit of {spec.hub_id} is pinned for {spec.name}", _by_folder(spec))
    # The library reads this switch from the environment when it is imported, which may be long past.
    telemetry, constants.HF_HUB_DISABLE_TELEMETRY = constants.HF_HUB_DISABLE_TELEMETRY, True
    try:
        ask = HfApi(endpoint=endpoint, token=False).model_info
        return ask(spec.hub_id, revision=spec.revision, files_metadata=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)
    except RevisionNotFoundError as error:
        raise DownloadFailed(f"{spec.hub_id} has no commit {spec.revision} at {endpoint}", _by_folder(spec)) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if isinstance(error, RepositoryNotFoundError) or status in (401, 404):  # a private one looks the same
            problem = f"{endpoint} has no repository {spec.hub_id} that is open to everybody"
            raise DownloadFailed(problem, _by_folder(spec)) from error
        raise DownloadFailed(f"{endpoint} answers with status {status}", "Try again later") from error
    except _connection_errors() as error:
        problem = f"cannot connect to {endpoint} ({_first_line(error)})"
        raise DownloadFailed(problem, weights_missing(spec).next_step) from error
    except (ValueError, TypeError, KeyError) as error:
        problem = f"{endpoint} does not answer like a hub; a network's sign-in page does that"
        raise DownloadFailed(problem, weights_missing(spec).next_step) from error
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = telemetry


def _choose(spec: ModelSpec, endpoint: str, info: ModelInfo) -> list[_HubFile]:
    """The files of the layout, small ones first: safetensors and JSON, never anything that can run."""
    if info.sha != spec.revision:
        raise DownloadFailed(f"{endpoint} offers commit {info.sha} instead of {spec.revision}", _by_folder(spec))
    listed = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    if missing := [path for path in _REQUIRED if path not in listed]:
        raise DownloadFailed(f"{spec.hub_id} has no {missing[0]} at commit {spec.revision}", _by_folder(spec))
    files = []
    for path, sibling in listed.items():
        if path in (*_REQUIRED, *_OPTIONAL) or _MODULE_CONFIG.fullmatch(path):
            lfs = sibling.lfs
            size, digest = (lfs.size, lfs.sha256) if lfs else (sibling.size, sibling.blob_id)
            if size is None or not digest:
                raise DownloadFailed(f"{endpoint} states no checksum for {path} of {spec.hub_id}", _by_folder(spec))
            files.append(_HubFile(path, size, digest))
    return sorted(files, key=lambda file: file.size)


def _fetch(spec: ModelSpec, file: _HubFile, endpoint: str, path: Path, progress: Progress) -> None:
    """Bring ``path`` to its full size, from whatever is there, and check it."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils.sha import git_hash

    home.make_private_folder(path.parent)
    url = hf_hub_url(spec.hub_id, file.path, revision=spec.revision, endpoint=endpoint)
    for wait in (*_WAITS, None):
        try:
            reason = _transfer(url, file, path, progress)
        except _connection_errors() as error:
            reason = _first_line(error)
        if not reason:
            break
        if wait is None:
            problem = f"the transfer of {file.path} of {spec.hub_id} broke ({reason})"
            raise DownloadFailed(problem, f"Run `jarvis-embed models pull {spec.name}` again: it resumes")
        time.sleep(wait)
    with home.reported(path):
        large = len(file.digest) == 64
        if file.digest == (home.sha256_of(path) if large else git_hash(path.read_bytes())):
            return
        path.unlink()
    problem = f"{file.path} of {spec.hub_id} has the wrong checksum and was discarded"
    raise DownloadFailed(problem, f"Run `jarvis-embed models pull {spec.name}` again, or use another hub")


def _transfer(url: str, file: _HubFile, path: Path, progress: Progress) -> str:
    """Ask for what ``path`` still lacks and append it. Returns why it is still not whole, or an empty string."""
    from huggingface_hub import constants, get_session

    size = path.stat().st_size if path.exists() else 0
    progress(file.path, min(size, file.size), file.size)
    if size >= file.size > 0:
        return ""
    headers = {"Accept-Encoding": "identity"}  # offsets count the bytes of the file, not of its compressed form
    if size:
        headers["Range"] = f"bytes={size}-"
    with get_session().stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
        if response.status_code == 416:  # what is here is no part of that file
            path.unlink()
        if response.status_code not in (200, 206):
            return f"status {response.status_code}"
        if response.status_code == 200 or not response.headers.get("Content-Range", "").startswith(f"bytes {size}-"):
            size = 0  # the whole file comes
        with home.reported(path), os.fdopen(home.open_private(path, os.O_WRONLY | os.O_APPEND), "ab") as out:
            out.truncate(size)
            for chunk in response.iter_bytes():
                out.write(chunk)
                size += len(chunk)
                progress(file.path, min(size, file.size), file.size)
                if size > file.size:  # never fill the disk with what cannot be the file
                    break
            out.flush()
            os.fsync(out.fileno())
    return "" if size >= file.size else f"{size:,} of {file.size:,} bytes came"


def _move_into_place(partial: Path, destination: Path) -> None:
    """Rename ``partial`` to ``destination``; a damaged folder that lies there goes only when the new one is whole."""
    old = destination.with_name(f".{destination.name}.old")
    home.remove_folder(old)
    with home.reported(destination):
        if destination.exists():
            destination.rename(old)
        partial.rename(destination)
        (destination / ".lock").unlink()
        home.sync_folder(destination.parent)
    for stale in (old, *destination.parent.glob(f".{destination.name}.*.partial")):  # of a commit pinned before
        home.remove_folder(stale)
