"""Who asks an API for a job's status, and who submits further jobs, while something else keeps the machine busy."""

from __future__ import annotations

import threading
import time
from typing import Self

import requests

from benchmarks.at_scale.bench import MODEL
from maskmill.shared.jobs.sources import Source
from maskmill.shared.ledger import Ledger, ModelCard

CARD = ModelCard(name=MODEL, digest="0" * 64, family="yolo_seg", labels=("disc",), threshold=0.5)
ASK_SECONDS, SUBMIT_SECONDS = 0.05, 0.5


class Clients:
    """Two threads, from entering to leaving; `tell` prints how long they waited for their answers."""

    def __init__(self, url: str, source: Source, ledger: Ledger) -> None:
        """Each submission is of that one source; a worker is registered with the ledger, or none would be taken."""
        self._url, self._source, self._ledger = url, source, ledger
        self._asked: list[float] = []
        self._submitted: list[float] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._submit), threading.Thread(target=self._ask)]
        self._jobs: list[str] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def tell(self) -> None:
        """Print the medians, the 99th percentiles and the longest."""
        for name, times in (("status", self._asked), ("submission", self._submitted)):
            ordered = sorted(times)
            p99, middle = ordered[int(0.99 * len(ordered))], ordered[len(ordered) // 2]
            at = {"median": middle, "p99": p99, "longest": ordered[-1]}
            shown = ", ".join(f"{word} {1000 * seconds:.1f} ms" for word, seconds in at.items())
            print(f"{name} meanwhile, {len(ordered)} times: {shown}")

    def _submit(self) -> None:
        with requests.Session() as session:
            document = {"sources": [self._source.model_dump(mode="json", exclude_none=True)]}
            while not self._over.wait(SUBMIT_SECONDS):
                self._ledger.serve("nobody", [CARD])
                began = time.perf_counter()
                answer = session.post(f"{self._url}/v1/jobs", json=document, timeout=60)
                self._submitted.append(time.perf_counter() - began)
                answer.raise_for_status()
                self._jobs.append(answer.json()["id"])

    def _ask(self) -> None:
        with requests.Session() as session:
            while not self._over.wait(ASK_SECONDS):
                if not self._jobs:
                    continue
                began = time.perf_counter()
                answer = session.get(f"{self._url}/v1/jobs/{self._jobs[0]}", timeout=60)
                self._asked.append(time.perf_counter() - began)
                answer.raise_for_status()
