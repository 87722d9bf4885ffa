//! What limits a pool's tasks and workers: time, attempts, initializers, numbers; and who is told when.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use crate::family::*;
use procession::pool::{Pool, TaskError, TaskState, as_completed};
use procession::{Error, Process, Queue, Value};

fn park() -> ! {
    loop {
        std::thread::park();
    }
}

fn die() -> ! {
    loop {
        send(std::process::id() as i32, libc::SIGKILL);
    }
}

const LIMIT: Duration = Duration::from_millis(50);

#[test]
fn a_task_that_takes_too_long_is_killed_and_no_other() {
    let _dog = watched();
    let pool = Pool::new(2).unwrap();
    let board = Board::new();
    let patient = pool.submit(
        |board: String| {
            wait_for(&board, "go");
            7
        },
        (board.path(),),
    );
    let hasty = pool.with_task_timeout(LIMIT).unwrap();
    for attempts in [1, 3] {
        match hasty.with_retries(attempts - 1).apply(|| -> u32 { park() }, ()) {
            Err(TaskError::TimedOut { limit, attempt, pid }) => {
                assert_eq!((limit, attempt), (LIMIT, attempts));
                until_dead(&[pid]);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(pool.apply(|| 3, ()), Ok(3));
    post(&board.path(), "go", "");
    assert_eq!(patient.unwrap().get(), Ok(7));
    assert_eq!(pool.stats().timeouts, 4);
}

/// The keeper may look at a task at any moment of its beginning.
#[test]
fn each_of_many_tasks_that_take_too_long_is_killed() {
    let _dog = watched();
    let hasty = Pool::new(1).unwrap().with_task_timeout(Duration::from_micros(500)).unwrap();
    for _ in 0..300 {
        let ended = hasty.apply(|| -> () { park() }, ());
        assert!(matches!(ended, Err(TaskError::TimedOut { .. })), "{ended:?}");
    }
}

#[test]
fn the_limit_of_a_map_is_for_each_item() {
    let _dog = watched();
    let pool = Pool::new(2).unwrap().with_task_timeout(Duration::from_secs(1)).unwrap();
    let slow = |n: u32| {
        if n == 5 {
            park();
        }
        std::thread::sleep(Duration::from_millis(50));
        n
    };
    // All of them together take longer than one may.
    let results = pool.with_chunk_size(25).unwrap().try_map(slow, 0..25u32);
    for (n, result) in results.iter().enumerate() {
        match result {
            Ok(value) => assert_eq!(*value, n as u32),
            Err(e) => assert!(n == 5 && matches!(e, TaskError::TimedOut { .. }), "{n}: {e}"),
        }
    }
}

#[test]
fn waiting_and_running_tasks_can_be_cancelled() {
    let _dog = watched();
    let pool = Pool::new(1).unwrap();
    let running = pool.submit(|| -> u32 { park() }, ()).unwrap();
    let waiting = pool.submit(|| 1, ()).unwrap();
    until("it runs", || running.state() == TaskState::Running);
    assert!(waiting.cancel());
    assert_eq!((waiting.get(), waiting.state()), (Err(TaskError::Cancelled), TaskState::Cancelled));
    assert!(!waiting.cancel(), "it is cancelled already");
    assert!(running.cancel());
    assert_eq!(running.get(), Err(TaskError::Cancelled));
    let done = pool.submit(|| 2, ()).unwrap();
    assert_eq!(done.get(), Ok(2));
    assert!(!done.cancel());
    assert_eq!(done.get(), Ok(2));
}

#[test]
fn dropping_the_results_stops_the_work() {
    let _dog = watched();
    let pool = Pool::new(2).unwrap().with_chunk_size(1).unwrap();
    let done = Queue::<u32>::unbounded().unwrap();
    let items: Vec<_> = (0..1000).map(|n| (n, done.clone())).collect();
    let mut results = pool.imap(
        |(n, done): (u32, Queue<u32>)| {
            done.put(n).unwrap();
            n
        },
        items,
    );
    assert_eq!(results.next(), Some(Ok(0)));
    drop(results);
    pool.close().unwrap();
    pool.join().unwrap();
    assert!(done.len() < 100, "{}", done.len());
}

static PREPARED: OnceLock<String> = OnceLock::new();

#[test]
fn each_worker_is_initialized_once() {
    let _dog = watched();
    let begun = Queue::<u32>::unbounded().unwrap();
    let pool = Pool::builder()
        .workers(2)
        .initializer(
            |begun: Queue<u32>, text: String| -> Result<(), String> {
                begun.put(std::process::id()).map_err(|e| e.to_string())?;
                PREPARED.set(text)
            },
            (begun.clone(), "state".to_string()),
        )
        .build()
        .unwrap();
    let found = pool.with_chunk_size(1).unwrap().map(|_: u32| PREPARED.get().cloned(), 0..50u32).unwrap();
    assert!(found.iter().all(|text| text.as_deref() == Some("state")));
    let killed = pool.apply(|| -> () { die() }, ());
    assert!(matches!(killed, Err(TaskError::WorkerDied { .. })));
    assert_eq!(pool.apply(|| PREPARED.get().cloned(), ()).unwrap().as_deref(), Some("state"));
    until("the dead one has a successor", || begun.len() == 3);
    pool.close().unwrap();
    pool.join().unwrap();
    begun.close().unwrap();
    let pids: Vec<u32> = begun.iter().map(Result::unwrap).collect();
    assert_eq!(pids.len(), 3);
    assert_eq!(pids.iter().collect::<HashSet<_>>().len(), 3);
}

#[test]
fn an_initializer_that_fails_breaks_the_pool() {
    let _dog = watched();
    let failing = Pool::builder().workers(2).initializer(|| Err::<(), _>("no licence"), ()).build().unwrap();
    match failing.submit(|| 1, ()).and_then(|task| task.get()) {
        Err(TaskError::Broken(why)) => assert!(why.contains("no licence"), "{why}"),
        other => panic!("{other:?}"),
    }
    failing.join().unwrap();
    assert!(failing.stats().started < 10, "{:?}", failing.stats());
    let dying = Pool::builder().workers(1).initializer(|| -> () { die() }, ()).build().unwrap();
    assert!(matches!(dying.submit(|| 1, ()).and_then(|task| task.get()), Err(TaskError::Broken(_))));
}

#[test]
fn workers_that_die_too_often_break_the_pool() {
    let _dog = watched();
    let pool = Pool::builder().workers(1).max_restarts(2, Duration::from_secs(3600)).build().unwrap();
    for _ in 0..3 {
        assert!(matches!(pool.apply(|| -> () { die() }, ()), Err(TaskError::WorkerDied { .. })));
    }
    assert!(matches!(pool.submit(|| 1, ()).and_then(|task| task.get()), Err(TaskError::Broken(_))));
}

#[test]
fn a_worker_leaves_after_its_share() {
    let _dog = watched();
    let pool = Pool::builder().workers(1).max_tasks_per_worker(10).build().unwrap();
    let pids: Vec<u32> = (0..30).map(|_| pool.apply(std::process::id, ()).unwrap()).collect();
    for share in pids.chunks(10) {
        assert!(share.iter().all(|pid| *pid == share[0]), "{pids:?}");
    }
    assert_eq!(pids.iter().collect::<HashSet<_>>().len(), 3);
    let two = Pool::builder().workers(2).max_tasks_per_worker(10).build().unwrap();
    assert_eq!(two.map(|n: u32| n + 1, 0..100u32).unwrap(), (1..101).collect::<Vec<u32>>());
    assert_eq!(two.stats().deaths, 0);
}

#[test]
fn a_pool_can_grow_and_shrink() {
    let _dog = watched();
    let pool = Pool::new(1).unwrap();
    let board = Board::new();
    let hold = |board: String, n: u32| {
        post(&board, &n.to_string(), "");
        wait_for(&board, "go");
        std::process::id()
    };
    pool.resize(4).unwrap();
    let tasks: Vec<_> = (0..4).map(|n| pool.submit(hold, (board.path(), n)).unwrap()).collect();
    // All four run at once.
    (0..4).for_each(|n| _ = board.wait(&n.to_string()));
    pool.resize(1).unwrap();
    post(&board.path(), "go", "");
    let pids: HashSet<u32> = tasks.iter().map(|task| task.get().unwrap()).collect();
    assert_eq!(pids.len(), 4);
    until("the others have left", || pool.stats().pids.len() == 1);
    assert_eq!(pool.apply(|| 1, ()), Ok(1));
}

#[test]
fn tasks_of_tasks_do_not_hang() {
    fn sum(pool: Pool, from: u32, to: u32) -> u64 {
        if to - from <= 4 {
            return (from..to).map(u64::from).sum();
        }
        let middle = (from + to) / 2;
        let left = pool.submit(sum, (pool.clone(), from, middle)).expect("submitted");
        let right = pool.submit(sum, (pool.clone(), middle, to)).expect("submitted");
        left.get().expect("left") + right.get().expect("right")
    }
    let _dog = watched();
    for workers in [1, 2] {
        let pool = Pool::new(workers).unwrap();
        assert_eq!(pool.apply(sum, (pool.clone(), 0, 200)), Ok(199 * 100));
        let mapped = pool.map(|(pool, n): (Pool, u32)| pool.map(|n: u32| n, 0..n).unwrap().len(), {
            let pool = pool.clone();
            (0..20u32).map(move |n| (pool.clone(), n)).collect::<Vec<_>>()
        });
        assert_eq!(mapped.unwrap(), (0..20).collect::<Vec<usize>>());
    }
}

/// More tasks begun inside of each other than are noted one by one; the worker dies at the innermost, and at its
/// second life at its time limit.
#[test]
fn a_death_deep_inside_of_tasks_costs_no_task() {
    fn descend(pool: Pool, left: u32, lives: Value<u32>) -> u32 {
        if left > 0 {
            return 1 + pool.submit(descend, (pool.clone(), left - 1, lives)).unwrap().get().unwrap();
        }
        lives.update(|n| *n += 1).unwrap();
        match lives.get().unwrap() {
            1 => die(),
            2 => park(),
            _ => 0,
        }
    }
    let _dog = watched();
    let lives = Value::new(0).unwrap();
    let limit = Duration::from_millis(300);
    let pool = Pool::builder().workers(1).retries(100).task_timeout(limit).build().unwrap();
    assert_eq!(pool.apply(descend, (pool.clone(), 12, lives.clone())), Ok(12));
    assert!(lives.get().unwrap() >= 3, "it died twice");
}

#[test]
fn callbacks_are_called_once_each() {
    let _dog = watched();
    let pool = Pool::new(2).unwrap();
    let (tell, told) = mpsc::channel();
    let tasks: Vec<_> = (0..20u32)
        .map(|n| {
            let task = pool.submit(|n: u32| if n == 7 { die() } else { n }, (n,)).unwrap();
            let tell = tell.clone();
            task.on_done(move |result| tell.send((n, result)).unwrap()).unwrap();
            task
        })
        .collect();
    drop(tell);
    let mut all: Vec<_> = told.iter().collect();
    all.sort_by_key(|(n, _)| *n);
    assert_eq!(all.len(), 20);
    assert!(all.iter().all(|(n, result)| (*n == 7) == result.is_err()));
    let (tell, told) = mpsc::channel();
    if cfg!(panic = "unwind") {
        tasks[0].on_done(|_| panic!("a callback that panics")).unwrap();
    }
    tasks[0].on_done(move |result| tell.send(result).unwrap()).unwrap();
    assert_eq!(told.recv().unwrap(), Ok(0), "the next one is called");
}

#[test]
fn a_task_is_a_future() {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake};
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let _dog = watched();
    let (pool, board) = (Pool::new(1).unwrap(), Board::new());
    let task = pool.submit(
        |board: String| {
            wait_for(&board, "go");
            5
        },
        (board.path(),),
    );
    let mut task = pin!(task.unwrap());
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = Context::from_waker(&waker);
    assert!(task.as_mut().poll(&mut context).is_pending());
    post(&board.path(), "go", "");
    loop {
        match task.as_mut().poll(&mut context) {
            Poll::Ready(result) => break assert_eq!(result, Ok(5)),
            Poll::Pending => std::thread::park(),
        }
    }
}

/// A future that is looked at again and again wakes once.
#[test]
fn a_task_wakes_its_future_once() {
    struct Counter(AtomicU32);
    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let _dog = watched();
    let (pool, board) = (Pool::new(1).unwrap(), Board::new());
    let wait = |board: String| _ = wait_for(&board, "go");
    let mut task = pool.submit(wait, (board.path(),)).unwrap();
    let counter = Arc::new(Counter(AtomicU32::new(0)));
    let waker = counter.clone().into();
    let mut context = Context::from_waker(&waker);
    for _ in 0..100 {
        assert!(Pin::new(&mut task).poll(&mut context).is_pending());
    }
    let (tell, told) = mpsc::channel();
    // Called after all that were asked for before.
    task.on_done(move |_| tell.send(()).unwrap()).unwrap();
    post(&board.path(), "go", "");
    told.recv().unwrap();
    assert_eq!(counter.0.load(Ordering::SeqCst), 1);
    assert_eq!(Pin::new(&mut task).poll(&mut context), Poll::Ready(Ok(())));
}

#[test]
fn tasks_come_as_they_are_completed() {
    let _dog = watched();
    let (pool, board) = (Pool::new(2).unwrap(), Board::new());
    let wait = |board: String, n: u32| {
        if n == 0 {
            wait_for(&board, "go");
        }
        n
    };
    let tasks: Vec<_> = (0..10).map(|n| pool.submit(wait, (board.path(), n)).unwrap()).collect();
    let mut order = Vec::new();
    for task in as_completed(tasks) {
        order.push(task.get().unwrap());
        if order.len() == 9 {
            post(&board.path(), "go", "");
        }
    }
    assert_eq!(order.pop(), Some(0));
    order.sort();
    assert_eq!(order, (1..10).collect::<Vec<u32>>());
}

/// A pool each, more than the kernel waits for at once.
#[test]
fn tasks_of_many_pools_come_as_they_are_completed() {
    let _dog = watched();
    let pools: Vec<Pool> = (0..140).map(|_| Pool::new(1).unwrap()).collect();
    let board = Board::new();
    let wait = |n: usize, board: String| {
        wait_for(&board, &n.to_string());
        n
    };
    let tasks: Vec<_> =
        pools.iter().zip(0..).map(|(pool, n)| pool.submit(wait, (n, board.path())).unwrap()).collect();
    let mut results = as_completed(tasks).map(|task| task.get().unwrap());
    // The first task is the last to be done.
    for n in [139, 70, 1, 128, 0] {
        post(&board.path(), &n.to_string(), "");
        assert_eq!(results.next(), Some(n));
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
enum Chain {
    End,
    Next(Box<Chain>),
}

/// What a thread of the program's own can read, the library's can.
#[test]
fn a_callback_has_as_much_stack_as_any_thread() {
    let _dog = watched();
    let pool = Pool::new(1).unwrap();
    let chain = |links: u32| (0..links).fold(Chain::End, |chain, _| Chain::Next(Box::new(chain)));
    let task = pool.submit(chain, (4000,)).unwrap();
    // (In a build without optimization, more than 512 KiB of frames.)
    let read = std::thread::scope(|scope| scope.spawn(|| task.get().map(std::mem::forget)).join().unwrap());
    assert_eq!(read, Ok(()));
    let (tell, told) = mpsc::channel();
    task.on_done(move |chain| tell.send(chain.map(std::mem::forget)).unwrap()).unwrap();
    assert_eq!(told.recv().unwrap(), Ok(()));
}

/// Its workers are killed before they begin, or before they take the pool out of their arguments.
#[test]
fn a_pool_that_is_terminated_before_its_workers_begin_ends() {
    let _dog = watched();
    for workers in (1..6).cycle().take(50) {
        let pool = Pool::new(workers).unwrap();
        pool.terminate().unwrap();
        pool.join().unwrap();
    }
}

#[test]
fn a_pool_ends_with_the_process_that_made_it() {
    let _dog = watched();
    let board = Board::new();
    let made = Queue::unbounded().unwrap();
    let maker = Process::spawn(
        |board: String, made: Queue<(procession::Task<u32>, procession::Task<u32>)>| -> Result<(), Error> {
            let pool = Pool::new(1)?;
            let running = pool.submit(
                |board: String| -> u32 {
                    post(&board, "worker", std::process::id());
                    park()
                },
                (board,),
            )?;
            let waiting = pool.submit(|| 1u32, ())?;
            made.put((running.clone(), waiting.clone()))?;
            park()
        },
        (board.path(), made.clone()),
    );
    let (running, waiting) = made.get().unwrap();
    let worker = board.number("worker");
    maker.unwrap().kill().unwrap();
    assert_eq!(waiting.get(), Err(TaskError::Terminated));
    assert_eq!(running.get(), Err(TaskError::Terminated));
    until_gone(&[worker]);
}

#[test]
fn what_a_dead_process_submitted_is_done_all_the_same() {
    let _dog = watched();
    let (pool, done) = (Pool::new(1).unwrap(), Queue::<u32>::unbounded().unwrap());
    let submitter = Process::spawn(
        |pool: Pool, done: Queue<u32>| -> Result<(), Error> {
            for n in 0..20 {
                drop(pool.submit(|done: Queue<u32>, n: u32| done.put(n).unwrap(), (done.clone(), n))?);
            }
            die()
        },
        (pool.clone(), done.clone()),
    );
    assert!(submitter.unwrap().join().is_err());
    pool.close().unwrap();
    pool.join().unwrap();
    assert_eq!(done.len(), 20);
}

#[test]
fn many_workers_work() {
    let _dog = watched();
    let pool = Pool::new(100).unwrap();
    assert_eq!(pool.map(|n: u32| n, 0..10_000u32).unwrap().len(), 10_000);
    pool.terminate().unwrap();
    pool.join().unwrap();
}

/// Each item of a long chunk has all its attempts.
#[test]
fn an_item_far_behind_has_its_own_attempts() {
    let _dog = watched();
    let pool = Pool::new(1).unwrap().with_retries(1).with_chunk_size(300).unwrap();
    let tried = Queue::<u32>::unbounded().unwrap();
    let items: Vec<(u32, Queue<u32>)> = (0..300).map(|n| (n, tried.clone())).collect();
    let dies_once = |(n, tried): (u32, Queue<u32>)| {
        if n % 256 == 0 {
            let before = tried.len();
            tried.put(n).unwrap();
            if before % 2 == 0 {
                die();
            }
        }
        n
    };
    let done = pool.try_map(dies_once, items);
    assert!(done.iter().enumerate().all(|(n, result)| *result == Ok(n as u32)), "{done:?}");
    assert_eq!(tried.len(), 4);
}

/// Workers that are stopped keep nobody from closing or shrinking the pool.
#[test]
fn stopped_workers_leave_when_they_are_to() {
    let _dog = watched();
    let pool = Pool::new(2).unwrap();
    until("both work", || pool.stats().pids.len() == 2);
    for pid in pool.stats().pids {
        send(pid, libc::SIGSTOP);
    }
    pool.resize(1).unwrap();
    until("one has left", || pool.stats().pids.len() == 1);
    send(pool.stats().pids[0], libc::SIGSTOP);
    pool.close().unwrap();
    pool.join().unwrap();
}

#[test]
fn a_worker_that_has_grown_leaves_after_its_task() {
    let _dog = watched();
    let pool = Pool::builder().workers(1).memory_limit(64 << 20).build().unwrap();
    let small = pool.apply(std::process::id, ()).unwrap();
    assert_eq!(pool.apply(std::process::id, ()), Ok(small));
    let grown = || {
        std::mem::forget(std::hint::black_box(vec![1u8; 80 << 20]));
        std::process::id()
    };
    assert_eq!(pool.apply(grown, ()), Ok(small));
    assert_ne!(pool.apply(std::process::id, ()), Ok(small));
    assert_eq!(pool.stats().deaths, 0);
    let far_beyond = pool.apply(|| std::hint::black_box(vec![1u8; 1 << 30]).len(), ());
    assert!(matches!(far_beyond, Err(TaskError::WorkerDied { .. })), "{far_beyond:?}");
    assert!(pool.apply(std::process::id, ()).is_ok());
    assert!(matches!(Pool::builder().memory_limit(0).build(), Err(Error::InvalidArgument(_))));
}

#[test]
fn idle_workers_leave_and_come_back() {
    let _dog = watched();
    let idle = Duration::from_millis(1);
    let pool = Pool::builder().workers(2).idle_timeout(idle).build().unwrap();
    for n in 0..200u32 {
        assert_eq!(pool.apply(|n: u32| n, (n,)), Ok(n));
        if n % 50 == 0 {
            until("all have left", || pool.stats().pids.is_empty());
        }
    }
    assert_eq!(pool.map(|n: u32| n, 0..1000).unwrap().len(), 1000);
    let last = pool.submit(|| 1, ()).unwrap();
    pool.close().unwrap();
    pool.join().unwrap();
    assert_eq!((last.get(), pool.stats().deaths), (Ok(1), 0));
}

#[test]
fn a_map_can_be_a_task() {
    let _dog = watched();
    let pool = Pool::new(2).unwrap();
    let task = pool.submit_map(|n: u64| n * 2, 0..10_000).unwrap();
    let names = pool.submit_map(|n: u64| n.to_string(), vec![1, 2]).unwrap();
    let failed = pool.submit_map(|n: u64| if n == 3 { die() } else { n }, 0..5u64).unwrap();
    assert!(matches!(failed.get(), Err(TaskError::WorkerDied { .. })));
    // What the pool has taken it does, closed or not.
    let late = pool.with_chunk_size(1).unwrap().submit_map(|n: u64| n, 0..1000).unwrap();
    pool.close().unwrap();
    pool.join().unwrap();
    assert_eq!(late.get().unwrap().len(), 1000);
    assert_eq!(task.get().unwrap()[9_999], 19_998);
    assert_eq!(names.get().unwrap(), ["1", "2"]);
    assert!(matches!(pool.submit_map(|n: u64| n, [1]), Err(TaskError::Closed)));
}

#[test]
fn a_map_that_is_a_task_can_be_cancelled_and_terminated() {
    let _dog = watched();
    let pool = Pool::new(2).unwrap();
    let endless = pool.submit_map(|n: u64| n, 0..).unwrap();
    assert!(endless.cancel());
    assert_eq!(endless.get(), Err(TaskError::Cancelled));
    assert!(!endless.cancel());
    let endless = pool.submit_map(|n: u64| n, 0..).unwrap();
    pool.terminate().unwrap();
    assert_eq!(endless.get(), Err(TaskError::Terminated));
}

#[test]
fn a_map_tells_how_far_it_is() {
    let _dog = watched();
    let pool = Pool::new(2).unwrap().with_chunk_size(10).unwrap();
    let mut told = Vec::new();
    pool.map_with_progress(|n: u32| n, 0..35u32, |p| told.push((p.done, p.total))).unwrap();
    assert_eq!(told, [10, 20, 30, 35].map(|done| (done, Some(35))));
}

#[test]
fn when_the_fourth_worker_cannot_start_the_three_that_did_are_stopped() {
    let _dog = watched();
    let (started, seats) = (Queue::<i32>::unbounded().unwrap(), Value::new(3u32).unwrap());
    let sit_down = |started: Queue<i32>, seats: Value<u32>| {
        let sits = seats.update(|left| left.checked_sub(1).map(|less| *left = less).is_some()).unwrap();
        started.put(std::process::id() as i32).unwrap();
        if sits { Ok(()) } else { Err("no seat is left") }
    };
    let pool = Pool::builder().workers(5).initializer(sit_down, (started.clone(), seats)).build().unwrap();
    let why = || match pool.apply(|| (), ()) {
        Err(TaskError::Broken(why)) => Some(why),
        _ => None,
    };
    let mut told = None;
    until("the pool is broken", || {
        told = why();
        told.is_some()
    });
    assert!(told.unwrap().contains("no seat is left"));
    pool.join().unwrap();
    let pids: Vec<i32> =
        started.try_get_many(usize::MAX).unwrap().into_iter().map(|pid| pid.unwrap()).collect();
    assert!(pids.len() > 3, "{pids:?}");
    until_gone(&pids);
}
