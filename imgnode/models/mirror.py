"""Talks to a mirror laid out as Hugging Face serves models; curl does the talking.

The token goes to curl on its standard input, so it stands in no list of processes.
"""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path

from imgnode.fault import CONFIG, FETCH, Fault
from imgnode.models.listing import Listing, RemoteFile, parse
from imgnode.process import Finished, run

_LIST_S = 120
_LEAST_RATE = 100_000  # bytes per second, over a whole file
_STALL_S = 120
_RESUMES = 50  # breaks of the line in one file, as long as each try brings something
_HTTP_ERROR, _NO_RANGES = 22, 33  # curl(1), EXIT CODES
_GONE, _DENIED, _BAD_RANGE = "404", ("401", "403"), "416"


@dataclass(frozen=True)
class Mirror:
    """One mirror; `token` is shown to it where the model wants one."""

    address: str
    token: str | None = field(default=None, repr=False)

    def list_files(self, model: str, revision: str) -> Listing:
        """Return what a model consists of. Raises Fault."""
        base = f"{self.address}/api/models/{model}"
        rev = urllib.parse.quote(revision, safe="")
        for address in (
            f"{base}/revision/{rev}?blobs=true",
            f"{base}/tree/{rev}?recursive=true",
        ):
            done = self._curl(address, timeout_s=_LIST_S)
            body, _, code = done.stdout.rpartition("\n")
            if done.rc == 0:
                listing = parse(body)
                if listing is not None:
                    return listing
            elif code != _GONE:
                raise self._fault(done, code, f"{model} ({revision})")
        if done.rc:
            hint = "check inference.model and inference.revision"
            fact = f"the model {model} ({revision}) does not exist on {self.address}"
            raise Fault(CONFIG, fact, hint)
        raise Fault(FETCH, f"{self.address} lists {model} without sizes and digests")

    def download(self, model: str, revision: str, file: RemoteFile, target: Path) -> None:
        """Fetch the rest of a file into `target`, where a beginning may lie. Raises Fault."""
        rev, path = urllib.parse.quote(revision, safe=""), urllib.parse.quote(file.path)
        address = f"{self.address}/{model}/resolve/{rev}/{path}"
        for _ in range(_RESUMES):
            had = _size(target)
            done = self._curl(
                address,
                *("--continue-at", "-"),
                *("--output", str(target)),
                timeout_s=_STALL_S + file.size / _LEAST_RATE,
            )
            code = done.stdout.strip()
            if done.rc == 0:
                return
            if had and (done.rc == _NO_RANGES or code == _BAD_RANGE):
                target.unlink()  # the server cannot resume: from the beginning
            elif done.rc == _HTTP_ERROR or _size(target) <= had:
                break
        raise self._fault(done, code, f"{model}: {file.path}")

    def _curl(self, address: str, *words: str, timeout_s: float) -> Finished:
        argv = [
            "curl",
            *("--config", "-"),  # curl 7.88 takes no --option=value
            "--silent",
            "--show-error",
            "--fail",
            "--location",
            *("--proto", "=http,https"),
            *("--retry", "3"),
            *("--connect-timeout", "20"),
            *("--speed-time", str(_STALL_S)),
            *("--speed-limit", "1024"),
            *("--write-out", r"\n%{http_code}"),
            *words,
            address,
        ]
        header = f'header = "Authorization: Bearer {self.token}"\n' if self.token else ""
        return run(argv, timeout_s=timeout_s, stdin=header)

    def _fault(self, done: Finished, code: str, what: str) -> Fault:
        if code in _DENIED:
            hint = "env: {HF_TOKEN: {secret: NAME}}, with a token that may read this model"
            return Fault(CONFIG, f"{self.address} does not give {what}: HTTP {code}", hint)
        told = " ".join(done.stderr.split())[:300]
        hint = "imgnode keeps what it has and goes on where it stopped"
        return Fault(FETCH, f"cannot fetch {what} from {self.address}: {told}", hint)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
