"""Nanoseconds of one use of a primitive of Python's multiprocessing: `primitives.py NAME`."""

import multiprocessing
import os
import sys
import time

BATCH, BATCHES = 20_000, 25
ROUNDS, WARM_UP = 3_000, 300
CPUS = sorted(os.sched_getaffinity(0))


def alone(use):
    """The median of batches, on one CPU."""
    os.sched_setaffinity(0, {CPUS[0]})
    batches = []
    for _ in range(BATCHES):
        began = time.perf_counter_ns()
        use()
        batches.append((time.perf_counter_ns() - began) / BATCH)
    return sorted(batches)[BATCHES // 2]


def two(context, play):
    """One round of two processes on two CPUs."""
    def rounds(which):
        os.sched_setaffinity(0, {CPUS[which % len(CPUS)]})
        for _ in range(WARM_UP):
            play(which)
        began = time.perf_counter_ns()
        for _ in range(ROUNDS):
            play(which)
        return (time.perf_counter_ns() - began) / ROUNDS

    other = context.Process(target=rounds, args=(1,))
    other.start()
    took = rounds(0)
    other.join()
    if other.exitcode != 0:
        raise SystemExit(f"the other process ended with {other.exitcode}")
    return took


def held(what):
    """Takes and releases it."""
    def use():
        for _ in range(BATCH):
            with what:
                pass
    return use


def main(name):
    context = multiprocessing.get_context("fork")
    if name == "lock":
        return alone(held(context.Lock()))
    if name == "rlock":
        return alone(held(context.RLock()))
    if name == "semaphore":
        return alone(held(context.Semaphore(4)))
    if name == "value":
        value = context.Value("q", 0)

        def use():
            for _ in range(BATCH):
                with value.get_lock():
                    value.value += 1
        return alone(use)
    if name == "event":
        event = context.Event()

        def use():
            for _ in range(BATCH):
                event.is_set()
        return alone(use)
    if name == "barrier":
        barrier = context.Barrier(2)
        return two(context, lambda which: barrier.wait())
    if name == "condition":
        turn, condition = context.RawValue("q", 0), context.Condition()

        def play(which):
            with condition:
                condition.wait_for(lambda: turn.value % 2 == which)
                turn.value += 1
                condition.notify()
        return two(context, play)
    raise SystemExit(f"no primitive is called {name}")


if __name__ == "__main__":
    print(main(sys.argv[1]))
