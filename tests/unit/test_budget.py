"""Admission by amount."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

from maskmill.worker.pipeline.budget import Budget


def test_never_more_is_held_than_the_budget() -> None:
    budget, lock = Budget(10), threading.Lock()
    held, most = 0, 0

    def use(amount: int) -> None:
        nonlocal held, most
        budget.acquire(amount)
        with lock:
            held += amount
            most = max(most, held)
        with lock:
            held -= amount
        budget.release(amount)

    dice = random.Random(1)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, [dice.randint(1, 6) for _ in range(2000)]))
    assert 6 <= most <= 10


def test_one_that_is_larger_than_the_whole_budget_is_let_in_alone() -> None:
    budget = Budget(10)
    budget.acquire(1)
    entered = threading.Event()
    waiting = threading.Thread(target=lambda: (budget.acquire(99), entered.set()))
    waiting.start()
    assert not entered.wait(0.1)
    budget.release(1)
    assert entered.wait(5)
    waiting.join()


def test_one_that_waits_is_not_overtaken_by_smaller_ones() -> None:
    budget, entered = Budget(10), threading.Semaphore(0)
    budget.acquire(1)
    first = threading.Thread(target=lambda: (budget.acquire(10), entered.release()))
    second = threading.Thread(target=lambda: (budget.acquire(1), entered.release()))
    first.start()
    assert not entered.acquire(timeout=0.1)
    second.start()
    assert not entered.acquire(timeout=0.1)
    budget.release(1)
    assert entered.acquire(timeout=5)
    assert not entered.acquire(timeout=0.1)
    budget.release(10)
    assert entered.acquire(timeout=5)
    first.join()
    second.join()
