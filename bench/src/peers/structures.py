"""What Python's multiprocessing, its executor and loky reach: `structures.py NAME`. In the unit of the benchmark."""

import concurrent.futures
import multiprocessing
import os
import sys
import time

CONTEXT = multiprocessing.get_context("fork")
CPUS = sorted(os.sched_getaffinity(0))
LEN = 1 << 20


def pin(which):
    os.sched_setaffinity(0, {CPUS[which % len(CPUS)]})


def seconds(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def ensure(good, what):
    if not good:
        raise SystemExit(what)


def beside(there, here):
    """Runs `there` in another process on another CPU, and `here` in this one; gives how long both took."""
    ready = CONTEXT.Barrier(2)

    def other():
        pin(1)
        ready.wait()
        there()

    process = CONTEXT.Process(target=other)
    process.start()
    pin(0)
    ready.wait()
    took = seconds(lambda: (here(), process.join()))
    ensure(process.exitcode == 0, f"the other process ended with {process.exitcode}")
    return took


def contended():
    times, lock, counter = 200_000, CONTEXT.Lock(), CONTEXT.RawValue("q", 0)

    def increment():
        for _ in range(times):
            with lock:
                counter.value += 1

    took = beside(increment, increment)
    ensure(counter.value == 2 * times, "an update was lost")
    return 2 * times / took


def stream(messages, make):
    queue = CONTEXT.Queue(1024 if messages > 1000 else 4)

    def produce():
        for number in range(messages):
            queue.put(make(number))

    def consume():
        for number in range(messages):
            ensure(queue.get()[:8] == number.to_bytes(8, "little"), "out of order")

    return messages / beside(produce, consume)


def small_messages():
    return stream(100_000, lambda number: number.to_bytes(8, "little") * 8)


def large_messages():
    rest = bytes(LEN - 8)
    return stream(400, lambda number: number.to_bytes(8, "little") + rest) * LEN / 1e6


def round_trips():
    turns, there, back = 10_000, CONTEXT.Queue(16), CONTEXT.Queue(16)

    def echo():
        for _ in range(turns):
            back.put(there.get())

    def ask():
        for turn in range(turns):
            there.put(turn)
            ensure(back.get() == turn, "a wrong answer")

    return beside(echo, ask) / turns * 1e9


def with_dict(use, entries, times):
    with CONTEXT.Manager() as manager:
        shared = manager.dict({n: n + 1 for n in range(entries)})
        return times / seconds(lambda: [use(shared, n) for n in range(times)])


def dict_get():
    return with_dict(lambda shared, n: ensure(shared[n] == n + 1, "a wrong value"), 10_000, 10_000)


def dict_update():
    """Under a lock: the manager has no step that reads and writes."""
    lock = CONTEXT.Lock()

    def update(shared, _):
        with lock:
            shared[0] -= 1

    return with_dict(update, 1, 5_000)


def nothing(*_):
    pass


def spawn_join():
    def once():
        process = CONTEXT.Process(target=nothing)
        process.start()
        process.join()
        ensure(process.exitcode == 0, "a process failed")

    times = 300
    once()
    return seconds(lambda: [once() for _ in range(times)]) / times * 1e6


def number(n):
    return n * n + 1


ITEMS, TASKS, TRIPS = 1_000_000, 6_000, 2_000
# The chunk size that `Pool.map` chooses by default.
CHUNK = ITEMS // 8


def best(count, work):
    return count / min(seconds(work) for _ in range(3)) / 1e6


def pool_map():
    with CONTEXT.Pool(2) as pool:
        return best(ITEMS, lambda: ensure(pool.map(number, range(ITEMS))[3] == 10, "a wrong result"))


def pool_submit():
    with CONTEXT.Pool(2) as pool:
        return best(TASKS, lambda: [task.get() for task in [pool.apply_async(nothing) for _ in range(TASKS)]])


def pool_round_trip():
    with CONTEXT.Pool(1) as pool:
        pool.apply(number, (1,))
        return seconds(lambda: [pool.apply(number, (n,)) for n in range(TRIPS)]) / TRIPS * 1e6


def map_with(executor):
    return best(ITEMS, lambda: ensure(list(executor.map(number, range(ITEMS), chunksize=CHUNK))[3] == 10, "wrong"))


def submit_to(executor):
    return best(TASKS, lambda: [task.result() for task in [executor.submit(nothing) for _ in range(TASKS)]])


def round_trips_of(executor):
    executor.submit(number, 1).result()
    return seconds(lambda: [executor.submit(number, n).result() for n in range(TRIPS)]) / TRIPS * 1e6


def executor(use, workers=2):
    def run():
        with concurrent.futures.ProcessPoolExecutor(workers, mp_context=CONTEXT) as pool:
            return use(pool)
    return run


def loky(use, workers=2):
    def run():
        import loky as library
        with library.get_reusable_executor(max_workers=workers) as pool:
            return use(pool)
    return run


NAMES = {
    "lock_contended": contended,
    "queue_64_bytes": small_messages,
    "queue_1_mib": large_messages,
    "queue_round_trip": round_trips,
    "dict_get": dict_get,
    "dict_update": dict_update,
    "spawn_join": spawn_join,
    "pool_map": pool_map,
    "pool_submit": pool_submit,
    "pool_round_trip": pool_round_trip,
    "executor_map": executor(map_with),
    "executor_submit": executor(submit_to),
    "executor_round_trip": executor(round_trips_of, 1),
    "loky_map": loky(map_with),
    "loky_submit": loky(submit_to),
    "loky_round_trip": loky(round_trips_of, 1),
}

if __name__ == "__main__":
    print(NAMES[sys.argv[1]]())
