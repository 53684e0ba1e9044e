"""The Python client: submit files, folders and URLs, watch a job, list its items, fetch its artifacts."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import requests
from pydantic import ValidationError
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema
from urllib3.util import Retry

from maskmill.client.downloads import Fetched, inside, mark_folder, save
from maskmill.client.errors import ClientError, ServiceUnreachable, error_of
from maskmill.client.multipart_form import Form
from maskmill.client.uploads import attachments, manifest_urls_and_files, urls_and_paths
from maskmill.shared.jobs.records import FINAL_STATES, JobStatus

PIECE_BYTES = 1 << 18
ITEMS_A_PAGE = 500
AWAY_SECONDS = 120.0
# Of the usual pause: small jobs are over at once.
FIRST_PAUSES = (0.1, 0.1, 0.2, 0.2, 0.4, 0.4)


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

    def submit(  # noqa: PLR0913 - each is a word of a submission
        self,
        inputs: Iterable[str | Path] = (),
        *,
        manifests: Iterable[str | Path] = (),
        options: Mapping[str, Any] | None = None,
        name: str | None = None,
        local: bool = False,
        server_paths: Iterable[str | Path] = (),
        output: str | None = None,
        keep_days: int | None = None,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> JobStatus:
        """Submit files, folders with all below them, http(s) URLs, and s3:// URLs of objects or patterns as one job.

        The rows of the `manifests`, which are files or URLs, name further inputs; docs/buckets.md has their forms.
        Files are uploaded piece by piece, and `progress` is told the bytes sent and their total. Of several inputs
        each folder's files keep its name, as in cats/1.jpg. What of a folder is no input is logged as a warning. With
        `local` the paths are sent instead, for the worker to read, as it reads the `server_paths` from its own disk.
        `output` is an s3://bucket/prefix/ for the artifacts. The job is kept `keep_days` once it is over, 0 for ever.
        With `dry_run` the inputs are only counted and a sample of them is run: then `estimate` tells what it would be.
        """
        urls, paths = urls_and_paths(inputs)
        uploaded = [] if local else paths
        read_there = [*map(Path, server_paths), *(paths if local else ())]
        listed, lists = manifest_urls_and_files(manifests)
        sources = urls + listed + [{"type": "path", "path": str(path.absolute())} for path in read_there]
        files = list(attachments(uploaded, alone=len(sources) + len(lists) + len(uploaded) == 1))
        job: dict[str, Any] = {"sources": sources, "options": dict(options or {})}
        given = {"name": name or None, "output": output or None, "keep_days": keep_days, "dry_run": dry_run or None}
        document = job | {field: one for field, one in given.items() if one is not None}
        return self._send(Form(document, [*files, *lists], progress))

    def estimate(self, job_id: str) -> dict[str, Any]:
        """What a job would be, as its dry run found once it is over."""
        return dict(self._json("GET", f"/v1/jobs/{job_id}/estimate"))

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

    def retry(self, job_id: str, codes: Iterable[str] | None = None) -> JobStatus:
        """Run again what failed in a job that is over, or only what failed with one of the codes."""
        return self._control(job_id, "retry", {} if codes is None else {"codes": list(codes)})

    def set_priority(self, job_id: str, priority: int) -> JobStatus:
        """Give the job another priority, 0 to 9; higher goes first."""
        return self._control(job_id, "priority", {"priority": priority})

    def delete(self, job_id: str, output: bool = False) -> None:
        """Delete a job that is over, with all that it stored; with `output` also what it wrote to its own output.

        It is not found any more when this returns; what it stored goes bit by bit.
        """
        self._request("DELETE", f"/v1/jobs/{job_id}", params={"output": str(output).lower()})

    def items(self, job_id: str, status: str | None = None, *, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """What became of each item, in their order, page after page; those of one `status`, at most `limit`."""
        query: dict[str, Any] = {"limit": min(limit or ITEMS_A_PAGE, ITEMS_A_PAGE)}
        return itertools.islice(self._items(job_id, query | ({"status": status} if status else {})), limit)

    def wait(
        self,
        job_id: str,
        progress: Callable[[JobStatus], None] | None = None,
        *,
        every: float = 0.5,
    ) -> JobStatus:
        """Return the final status; calls `progress` with each one seen, and waits for a service that is away."""
        gone_at: float | None = None
        for share in itertools.chain(FIRST_PAUSES, itertools.repeat(1.0)):
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
            time.sleep(share * every)
        raise AssertionError("the pauses never end")

    def fetch(self, job_id: str, out_dir: str | Path, progress: Callable[[Fetched], None] | None = None) -> Fetched:
        """Download every artifact into `out_dir` under its own relative name, several at once.

        A file appears only when it is whole; a second call skips those that are there.
        """
        folder = Path(out_dir)
        try:
            return self._fetch(job_id, folder, progress)
        except OSError as error:
            raise ClientError(f"cannot write to {error.filename or folder}: {error.strerror or error}") from None

    def _fetch(self, job_id: str, folder: Path, progress: Callable[[Fetched], None] | None) -> Fetched:
        keep = mark_folder(folder, job_id)
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

    def _items(self, job_id: str, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
        while True:
            page = self._json("GET", f"/v1/jobs/{job_id}/items", params=query)
            yield from page["items"]
            if not page["has_more"]:
                return
            query["after"] = page["next"]

    def _control(self, job_id: str, verb: str, wanted: Mapping[str, Any] | None = None) -> JobStatus:
        return _status(self._json("POST", f"/v1/jobs/{job_id}/{verb}", json=wanted))

    def _send(self, form: Form) -> JobStatus:
        """The job that a form makes; tried twice, which its key makes harmless after an answer that never came."""
        headers = {"Content-Type": form.content_type, "Idempotency-Key": secrets.token_urlsafe(24)}
        try:
            return _status(self._json("POST", "/v1/jobs", data=form, headers=headers))
        except ServiceUnreachable as error:
            if error.status not in (0, 502, 504):
                raise
        time.sleep(1)
        return _status(self._json("POST", "/v1/jobs", data=form, headers=headers))

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
        except (MissingSchema, InvalidSchema, InvalidURL):
            raise ClientError(f"{self.base_url} is no URL of a service; write it as http://127.0.0.1:8080") from None
        except requests.RequestException as error:
            raise ClientError(f"{self.base_url}: {error}") from None
        if answer.status_code >= 400:
            raise error_of(answer)
        return answer


def _status(document: Any) -> JobStatus:
    try:
        return JobStatus.model_validate({key: value for key, value in document.items() if key != "links"})
    except (AttributeError, ValidationError):
        raise ClientError(
            "the answer is not the status of a job; client and service are of different versions"
        ) from None


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


__all__ = ["Client", "ClientError", "ServiceUnreachable"]
