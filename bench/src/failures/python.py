"""The scenarios of the failure matrix, with Python's multiprocessing.

Prints `do: WHAT` before something that may hang, `saw: WHAT` for what happened, and `made: NAME` for what has a
name in the file system. The program that runs it bounds the time, and removes what is left.
"""

import multiprocessing as mp
import os
import queue
import signal
import subprocess
import sys
import threading
import time

mp.set_start_method("fork")


def say(kind, what):
    print(f"{kind}: {what}", flush=True)


def saw(what):
    say("saw", what)


def do(what):
    say("do", what)


def for_ever():
    while True:
        time.sleep(60)


def child(body):
    """A process that has come as far as its call of `ready`, and half a second further."""
    reader, writer = os.pipe()
    process = mp.Process(target=body, args=(lambda: os.write(writer, b"x"),), daemon=True)
    process.start()
    os.read(reader, 1)
    return process


def blocked_child(body):
    process = child(body)
    time.sleep(0.5)
    return process


def kill(process):
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def in_thread(body, seconds):
    """Whether it ends in time."""
    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def error(body):
    try:
        return f"gives {body()!r}"
    except BaseException as e:
        return f"raises {type(e).__name__}"


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def live_on(pids, seconds):
    """How many of them are still there after a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not all(map(gone, pids)):
        time.sleep(0.01)
    return [pid for pid in pids if not gone(pid)]


def f1():
    for make in (mp.Lock, mp.RLock, mp.Semaphore):
        it = make()

        def hold(ready):
            it.acquire()
            ready()
            for_ever()

        kill(child(hold))
        saw(f"{make.__name__}: acquire(timeout=1) gives {it.acquire(timeout=1)}")
    do("Lock: acquire()")
    lock = mp.Lock()

    def hold_it(ready):
        lock.acquire()
        ready()
        for_ever()

    kill(child(hold_it))
    lock.acquire()


def f2():
    event = mp.Event()

    def wait(ready):
        ready()
        event.wait()

    kill(blocked_child(wait))
    if not in_thread(event.set, 1):
        saw("set() has not returned after 1 s")
    do("is_set()")
    saw(f"is_set() gives {event.is_set()}")


def f3():
    condition = mp.Condition()

    def wait(ready):
        with condition:
            ready()
            condition.wait()

    kill(blocked_child(wait))
    with condition:
        do("notify_all()")
        condition.notify_all()
    saw("notify_all() returns")


def f4():
    barrier = mp.Barrier(3)

    def wait(ready):
        ready()
        barrier.wait()

    dead, other = blocked_child(wait), blocked_child(wait)
    kill(dead)
    saw(f"{barrier.n_waiting} are said to wait")
    if not in_thread(lambda: error(lambda: barrier.wait(timeout=0.5)), 2):
        saw("wait(timeout=0.5) has not returned after 2 s")
    if not in_thread(barrier.abort, 1):
        saw("abort() has not returned after 1 s")
    other.join(0.5)
    if other.is_alive():
        do("the other waiter")
        other.join()


def f5():
    q = mp.Queue()

    def get(ready):
        ready()
        q.get()

    kill(blocked_child(get))
    q.put(1)
    time.sleep(0.3)
    saw(f"get(timeout=1) {error(lambda: q.get(timeout=1))}, qsize() gives {q.qsize()}")
    do("get()")
    q.get()


def f6():
    q = mp.Queue()

    def put(ready):
        q.put(b"x" * 50_000_000)
        ready()
        for_ever()

    kill(blocked_child(put))
    q.put(1)
    do("get() of the next item")
    saw(f"the next get() {error(lambda: q.get())}")


def f7():
    lost = 0
    for _ in range(10):
        q = mp.Queue()

        def put(_ready):
            for i in range(3):
                q.put(i)
            os.kill(os.getpid(), signal.SIGKILL)

        process = mp.Process(target=put, args=(None,), daemon=True)
        process.start()
        process.join()
        got = 0
        do("get(timeout=0.1)")
        try:
            while True:
                q.get(timeout=0.1)
                got += 1
        except queue.Empty:
            lost += 3 - got
    saw(f"{lost} of 30 items are lost")


def f8():
    q = mp.JoinableQueue()
    q.put(1)

    def get(ready):
        q.get()
        ready()
        for_ever()

    kill(child(get))
    saw(f"the item comes back: {not q.empty()}")
    do("join(), which has no timeout,")
    q.join()


def f9():
    q = mp.Queue()
    process = mp.Process(target=lambda: q.put(b"x" * 10_000_000), daemon=True)
    process.start()
    do("join() of the child")
    process.join()
    saw(f"join() returns; get() gives {len(q.get())} bytes")


def double(n):
    return 2 * n


def die(_=None):
    os.kill(os.getpid(), signal.SIGKILL)


def leave(_=None):
    sys.exit(3)


def nap(seconds):
    time.sleep(seconds)
    return seconds


class Stubborn(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def stubborn(_=None):
    raise Stubborn(1, 2)


def fate(task, seconds=1):
    """What became of a task of a pool."""
    try:
        return f"gives {task.get(timeout=seconds)!r}"
    except mp.TimeoutError:
        return f"has not returned after {seconds} s"
    except BaseException as e:
        return f"raises {type(e).__name__}"


def f10():
    pool = mp.Pool(2)
    killed = pool.apply_async(die)
    saw(f"the task's get() {fate(killed)}")
    saw(f"the next task {fate(pool.apply_async(double, (21,)))}")
    pool.close()
    do("close() and join()")
    pool.join()
    saw("join() returns")


def f11():
    pool = mp.Pool(2)
    left = pool.apply_async(leave)
    saw(f"the next task {fate(pool.apply_async(double, (21,)))}")
    do("the task's get()")
    saw(f"the task's get() {error(left.get)}")


def f12_13(which):
    pool = mp.Pool(2)
    time.sleep(0.5)
    os.kill(pool._pool[which].pid, signal.SIGKILL)
    time.sleep(0.5)
    done = [fate(pool.apply_async(double, (n,)), 0.5) for n in range(4)]
    alive = sum(worker.is_alive() for worker in pool._pool)
    saw(f"{sum(d.startswith('gives') for d in done)} of the 4 next tasks return; {alive} workers are alive")
    if not all(d.startswith("gives") for d in done):
        do("a task's get()")
        pool.apply_async(double, (1,)).get()


def f14():
    pool = mp.Pool(2)
    saw(f"the task's get() {fate(pool.apply_async(stubborn))}")
    saw(f"the next task {fate(pool.apply_async(double, (21,)))}")
    do("another task's get()")
    pool.apply_async(double, (1,)).get()
    saw("another task returns")


def f15():
    pool = mp.Pool(2)

    def callback(_):
        raise ValueError("callback")

    saw(f"the task's get() {fate(pool.apply_async(double, (21,), callback=callback))}")
    saw(f"the next task {fate(pool.apply_async(double, (21,)))}")
    do("another task's get()")
    pool.apply_async(double, (1,)).get()
    saw("another task returns")


def f16():
    count = mp.Value("i", 0)

    def initializer():
        with count.get_lock():
            count.value += 1
        raise ValueError("initializer")

    sys.stderr = open(os.devnull, "w")
    os.dup2(sys.stderr.fileno(), 2)
    pool = mp.Pool(1, initializer=initializer)
    task = pool.apply_async(double, (1,))
    time.sleep(1)
    saw(f"{count.value} processes were started in 1 s")
    do("a task's get()")
    saw(f"a task {error(task.get)}")


def f17():
    pool = mp.Pool(2)
    for size in (0, -1):
        saw(f"chunksize={size}: map {error(lambda: pool.map(double, [1, 2, 3], chunksize=size))}")


def outcome(future):
    try:
        return f"gives {future.result(timeout=2)!r}"
    except BaseException as e:
        return f"raises {type(e).__name__}"


def f18():
    from concurrent.futures import ProcessPoolExecutor

    pool = ProcessPoolExecutor(2)
    other, killed = pool.submit(nap, 0.5), pool.submit(die)
    saw(f"the task {outcome(killed)}")
    saw(f"one that ran beside it {outcome(other)}")
    saw(f"the next submit {error(lambda: pool.submit(double, 1).result(timeout=2))}")


def f19():
    from concurrent.futures import ProcessPoolExecutor

    pool = ProcessPoolExecutor(2)
    saw(f"the task {outcome(pool.submit(stubborn))}")
    saw(f"the next submit {error(lambda: pool.submit(double, 1).result(timeout=2))}")


def f20():
    from concurrent.futures import ProcessPoolExecutor

    pool = ProcessPoolExecutor(2)
    began = time.monotonic()
    task = pool.submit(nap, 1.5)
    saw(f"result(timeout=0.2) {error(lambda: task.result(timeout=0.2))}, cancel() gives {task.cancel()}")
    pool.shutdown()
    saw(f"shutdown() returns after {time.monotonic() - began:.1f} s")


def f21():
    manager = mp.Manager()
    shared = manager.dict(a=1)
    os.kill(manager._process.pid, signal.SIGKILL)
    manager._process.join()
    do("the dict's get")
    saw(f"a look at its dict {error(lambda: shared['a'])}")
    saw(f"a new dict {error(manager.dict)}")


def f22():
    manager = mp.Manager()
    lock = manager.Lock()

    def hold(ready):
        lock.acquire()
        ready()
        for_ever()

    kill(child(hold))
    do("acquire(timeout=1)")
    saw(f"acquire(True, 1) gives {lock.acquire(True, 1)}")


def family(role):
    """Run as a program of its own: says who is below it, and sleeps."""
    body = for_ever
    if role == "deep":

        def body():
            grandchild = mp.Process(target=for_ever)
            grandchild.start()
            print(grandchild.pid, flush=True)
            for_ever()

    process = mp.Process(target=body, daemon=role == "flat")
    process.start()
    print(process.pid, flush=True)
    for_ever()


def start_family(role, lines):
    program = subprocess.Popen([sys.executable, "-c", SOURCE, role], stdout=subprocess.PIPE, text=True)
    return program, [int(program.stdout.readline()) for _ in range(lines)]


def f23():
    program, below = start_family("flat", 1)
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    left = live_on(below, 1.5)
    saw(f"parent killed: the daemon child is {'alive 1.5 s later' if left else 'gone'}")
    program, below = start_family("deep", 2)
    child_pid = next(pid for pid in below if parent_of(pid) == program.pid)
    rest = [pid for pid in below if pid != child_pid]
    os.kill(child_pid, signal.SIGKILL)
    left += live_on(rest, 1.5)
    saw(f"child killed: the grandchild is {'alive 1.5 s later' if rest[0] in left else 'gone'}")
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    program.kill()


def parent_of(pid):
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def f24():
    from multiprocessing import shared_memory

    memory = shared_memory.SharedMemory(create=True, size=64)
    say("made", memory.name)
    memory.buf[0] = 7
    attach = f"from multiprocessing import shared_memory as s; m = s.SharedMemory({memory.name!r}); m.close()"
    subprocess.run([sys.executable, "-c", attach], stderr=subprocess.DEVNULL)
    time.sleep(0.5)  # the other one's resource tracker outlives it a little

    def look():
        again = shared_memory.SharedMemory(memory.name)
        return again.buf[0]

    saw(f"its owner opens it again: {error(look)}")


def f25():
    program, below = start_family("leaky", 2)
    names = []
    for _ in range(2):
        names.append(program.stdout.readline().strip())
        say("made", names[-1])
    os.kill(below[0], signal.SIGKILL)
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    time.sleep(0.5)
    left = [name for name in names if os.path.exists(f"/dev/shm/{name}")]
    saw(f"{len(left)} of 2 names remain in /dev/shm")


def leaky():
    from multiprocessing import resource_tracker, shared_memory

    memory = shared_memory.SharedMemory(create=True, size=64)
    context = mp.get_context("spawn")
    lock = context.Lock()
    print(resource_tracker._resource_tracker._pid, os.getpid(), sep="\n")
    print(memory.name, "sem." + lock._semlock.name.lstrip("/"), sep="\n", flush=True)
    for_ever()


def f26():
    saw(f"terminate() {error(mp.Process(target=for_ever).terminate)}")


def f27():
    here, there = mp.Pipe()

    def send(ready):
        ready()
        there.send_bytes(b"x" * 50_000_000)

    process = blocked_child(send)
    there.close()
    kill(process)
    do("recv_bytes()")
    saw(f"recv_bytes() {error(lambda: len(here.recv_bytes()))}")


SOURCE = os.environ["DEED_SOURCE"]
NAME = sys.argv[1]
if NAME in ("flat", "deep"):
    family(NAME)
elif NAME == "leaky":
    leaky()
elif NAME in ("F12", "F13"):
    f12_13(int(NAME == "F13"))
else:
    globals()[NAME.lower()]()
# Exits without waiting for threads or children that hang.
sys.stdout.flush()
os._exit(0)
