"""An item of a shard, as the pipeline sees it; its artifacts go to storage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from maskmill.shared.errors import UnsupportedFormat
from maskmill.shared.formats import HEAD_BYTES, PAGED, sniff
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import Item, Options, Outcome
from maskmill.shared.jobs.sources import PdfOptions
from maskmill.shared.storage import for_one_object
from maskmill.worker.images.decode import page_count
from maskmill.worker.masks.segmented import Segmented
from maskmill.worker.models import Model
from maskmill.worker.outcomes import outcome_of
from maskmill.worker.pipeline.task import Done
from maskmill.worker.rendering.artifacts import Artifact, Rendered, render
from maskmill.worker.retry import patiently
from maskmill.worker.shards.shard_run import ShardRun
from maskmill.worker.sources.fetch import Fetcher
from maskmill.worker.sources.pages import with_password


@dataclass
class ItemTask:
    """An item on its way to its outcome."""

    run: ShardRun
    item: Item
    model: Model
    files: JobFiles
    fetcher: Fetcher
    after: Callable[[], None] | None = None

    @property
    def options(self) -> Options:
        return self.run.job.options

    @property
    def page_index(self) -> int | None:
        return self.item.page_index

    @property
    def pdf(self) -> PdfOptions | None:
        return with_password(self.item.pdf, self.item.source, self.run.passwords)

    def wanted(self) -> bool:
        return self.run.wanted

    def fetch(self) -> bytes:
        data = patiently(self.fetcher.fetch, self.item.location)
        if self.page_index is None:
            self._check_single(data)
        return data

    def _check_single(self, data: bytes) -> None:
        """Raise UnsupportedFormat for bytes with pages under a name that says that there are none."""
        form = sniff(data[:HEAD_BYTES])
        if form not in PAGED:
            return
        if form == "pdf" or page_count(data, None, self.fetcher.settings) is not None:
            kind = form.upper()
            if self.run.lease.retry:
                raise UnsupportedFormat(f"this is a {kind} with pages, which the job could not count; submit it anew")
            raise UnsupportedFormat(f"this is a {kind} with pages, and its name says a picture; name it .{form}")

    def render(self, segmented: Segmented) -> Rendered:
        return render(segmented, self.item, self.options, self.model)

    def deliver(self, rendered: Rendered) -> Rendered:
        for artifact in rendered.artifacts.values():
            patiently(self._store, artifact)
        return rendered

    def _store(self, artifact: Artifact) -> None:
        store = self.files.store_artifact
        for_one_object(self.files.results, store, artifact.name, artifact.data, artifact.content_type)

    def done(self, done: Done) -> None:
        if self.after:
            self.after()
        if done.failure:
            self.run.fail(self.item, done.failure)
        elif done.error is not None:
            self.run.add(None)
        else:
            self.run.add(_succeeded(self.item, done.value), done.value.annotation)


def _succeeded(item: Item, rendered: Rendered) -> Outcome:
    return outcome_of(
        item,
        "succeeded",
        artifacts={kind: artifact.name for kind, artifact in rendered.artifacts.items()},
        width=rendered.width,
        height=rendered.height,
        instances=rendered.instances,
    )
