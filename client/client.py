"""The Python client: submit files, folders and URLs, watch a job, fetch its artifacts."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import requests
from pydantic import ValidationError
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from maskmill.client.downloads import Fetched, claim, inside, save
from maskmill.client.multipart_form import Attachment, Form
from maskmill.shared.jobs.records import FINAL_STATES, JobStatus

# Which files of a folder are sent; a file named by itself is sent whatever it is called.
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff"}
    | {".gif", ".avif", ".pdf", ".mpo", ".heic", ".heif", ".jp2", ".ico"}
)
PIECE_BYTES = 1 << 18
AWAY_SECONDS = 120.0


class ClientError(Exception):
    """The service said no; `str(error)` is the reason, `status` HTTP's, `code` and `errors` the problem's."""

    def __init__(self, reason: str, *, status: int = 0, code: str = "client", errors: Sequence[Any] = ()) -> None:
        super().__init__(reason)
        self.reason, self.status, self.code, self.errors = reason, status, code, tuple(errors)


class ServiceUnreachable(ClientError):
    """Nobody answers at the URL, or the service says that it cannot answer now."""


class Client:
    """Speaks to one service; every method raises ClientError, and ServiceUnreachable where nobody answers."""

    def __init__(self, base_url: str = "http://127.0.0.1:8080", *, timeout: float = 60, connections: int = 8) -> None:
        self.base_url = base_url.rstrip("/")
        self._timeout, self._connections = timeout, connections
        self._session = requests.Session()
        retries = Retry(connect=0, read=2, status=4, backoff_factor=0.5, status_forcelist=(502, 503, 504))
        retries.raise_on_status = False
        adapter = HTTPAdapter(pool_maxsize=connections, max_retries=retries)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def submit(
        self,
        inputs: Iterable[str | Path],
        *,
        options: Mapping[str, Any] | None = None,
        name: str | None = None,
        local: bool = False,
        server_paths: Iterable[str | Path] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> JobStatus:
        """Submit files, folders with all below them, and http(s) URLs as one job.

        Files are uploaded piece by piece, and `progress` is told the bytes sent and their total; with `local` their
        paths are sent instead, for the worker to read, as it reads the `server_paths` from its own disk.
        """
        urls, paths = _sort_out(inputs)
        sources = [{"type": "url", "url": url} for url in urls]
        files = [] if local else list(_attachments(paths))
        there = [*map(Path, server_paths), *(paths if local else ())]
        sources += [{"type": "path", "path": str(path.absolute())} for path in there]
        job: dict[str, Any] = {"sources": sources, "options": dict(options or {})}
        form = Form(job | ({"name": name} if name else {}), files, progress)
        # The key makes a second try harmless after an answer that never came.
        key = {"Idempotency-Key": secrets.token_urlsafe(24)}
        return _status(self._twice("/v1/jobs", data=form, headers={"Content-Type": form.content_type} | key))

    def status(self, job_id: str) -> JobStatus:
        """Where the job stands."""
        return _status(self._json("GET", f"/v1/jobs/{job_id}"))

    def jobs(self, limit: int = 50) -> list[JobStatus]:
        """The newest jobs."""
        return [_status(job) for job in self._json("GET", "/v1/jobs", params={"limit": limit})["jobs"]]

    def cancel(self, job_id: str) -> JobStatus:
        """Stop the job; what is done stays."""
        return self._control(job_id, "cancel")

    def pause(self, job_id: str) -> JobStatus:
        """Hold the job where it is."""
        return self._control(job_id, "pause")

    def resume(self, job_id: str) -> JobStatus:
        """Go on with a paused job."""
        return self._control(job_id, "resume")

    def items(self, job_id: str, status: str | None = None) -> Iterator[dict[str, Any]]:
        """What became of each item, in their order, page after page; those of one `status` where it is given."""
        query: dict[str, Any] = {"limit": 500, **({"status": status} if status else {})}
        while True:
            page = self._json("GET", f"/v1/jobs/{job_id}/items", params=query)
            yield from page["items"]
            if not page["has_more"]:
                return
            query["after"] = page["next"]

    def wait(
        self,
        job_id: str,
        progress: Callable[[JobStatus], None] | None = None,
        *,
        every: float = 0.5,
    ) -> JobStatus:
        """Return the final status; calls `progress` with each one seen, and waits for a service that is away."""
        gone_at: float | None = None
        while True:
            try:
                status = self.status(job_id)
                gone_at = None
                if progress:
                    progress(status)
                if status.state in FINAL_STATES:
                    return status
            except ServiceUnreachable:
                gone_at = gone_at or time.monotonic()
                if time.monotonic() - gone_at > AWAY_SECONDS:
                    raise
            time.sleep(every)

    def fetch(self, job_id: str, out_dir: str | Path, progress: Callable[[Fetched], None] | None = None) -> Fetched:
        """Download every artifact into `out_dir` under its own relative name, several at once.

        A file appears only when it is whole; a second call skips those that are there.
        """
        folder = Path(out_dir)
        keep = claim(folder, job_id)
        done = Fetched()
        with ThreadPoolExecutor(self._connections) as pool:
            running: set[Future[Fetched]] = set()
            for item in self.items(job_id):
                done += Fetched(failed_items=int(item["status"] == "failed"))
                for kind, name in item["artifacts"].items():
                    running.add(pool.submit(self._download, item["links"][kind], _inside(folder, name), keep=keep))
                running, done = _collect(running, done, at_most=4 * self._connections)
                if progress:
                    progress(done)
            return _collect(running, done, at_most=0)[1]

    def _download(self, link: str, target: Path, *, keep: bool) -> Fetched:
        if keep and target.is_file():
            return Fetched(present=1)
        with self._request("GET", link, stream=True) as answer:
            save(target, _pieces(answer))
        return Fetched(downloaded=1)

    def _control(self, job_id: str, verb: str) -> JobStatus:
        return _status(self._json("POST", f"/v1/jobs/{job_id}/{verb}"))

    def _twice(self, path: str, **rest: Any) -> Any:
        try:
            return self._json("POST", path, **rest)
        except ServiceUnreachable as error:
            if error.status not in (0, 502, 504):
                raise
        time.sleep(1)
        return self._json("POST", path, **rest)

    def _json(self, method: str, path: str, **rest: Any) -> Any:
        answer = self._request(method, path, **rest)
        try:
            return answer.json()
        except ValueError:
            raise ClientError(f"{self.base_url} does not answer as Maskmill does; is the URL right?") from None

    def _request(self, method: str, path: str, **rest: Any) -> requests.Response:
        try:
            answer = self._session.request(method, self.base_url + path, timeout=self._timeout, **rest)
        except requests.ConnectionError:
            raise ServiceUnreachable(f"nobody answers at {self.base_url}; is the service running?") from None
        except requests.Timeout:
            raise ServiceUnreachable(f"{self.base_url} did not answer within {self._timeout:g} s") from None
        except requests.RequestException as error:
            raise ClientError(f"{self.base_url}: {error}") from None
        if answer.status_code >= 400:
            raise _error(answer)
        return answer


def _error(answer: requests.Response) -> ClientError:
    try:
        problem = answer.json()
        reason, code = str(problem.get("detail") or problem.get("errorMsg")), str(problem.get("code", "http"))
        errors = problem.get("errors", ())
    except (ValueError, AttributeError):
        reason, code, errors = f"HTTP {answer.status_code} {answer.reason}", "http", ()
    kind = ServiceUnreachable if answer.status_code in (502, 503, 504) else ClientError
    return kind(reason, status=answer.status_code, code=code, errors=errors)


def _status(document: Any) -> JobStatus:
    try:
        return JobStatus.model_validate({key: value for key, value in document.items() if key != "links"})
    except (AttributeError, ValidationError):
        raise ClientError(
            "the answer is not the status of a job; client and service are of different versions"
        ) from None


def _sort_out(inputs: Iterable[str | Path]) -> tuple[list[str], list[Path]]:
    urls: list[str] = []
    paths: list[Path] = []
    for one in inputs:
        if isinstance(one, str) and one.startswith(("http://", "https://")):
            urls.append(one)
        else:
            paths.append(Path(one))
    return urls, paths


def _attachments(paths: Iterable[Path]) -> Iterator[Attachment]:
    for path in paths:
        if path.is_dir():
            found = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES and file.is_file()]
            if not found:
                raise ClientError(f"there is no picture or PDF in {path}", code="input_not_found")
            yield from (Attachment(file.relative_to(path).as_posix(), file) for file in found)
        elif path.is_file():
            yield Attachment(path.name, path)
        else:
            raise ClientError(f"there is no file or folder {path}", code="input_not_found")


def _inside(folder: Path, name: str) -> Path:
    try:
        return inside(folder, name)
    except ValueError as error:
        raise ClientError(str(error)) from None


def _pieces(answer: requests.Response) -> Iterator[bytes]:
    try:
        yield from answer.iter_content(PIECE_BYTES)
    except requests.RequestException as error:
        raise ServiceUnreachable(f"the download of {answer.url} broke off: {error}") from None


def _collect(running: set[Future[Fetched]], done: Fetched, *, at_most: int) -> tuple[set[Future[Fetched]], Fetched]:
    while len(running) > at_most:
        ready, running = wait(running, return_when=FIRST_COMPLETED)
        for future in ready:
            done += future.result()
    return running, done
