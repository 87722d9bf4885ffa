//! Notification of finished tasks: callbacks, futures, and `as_completed`.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake};

use crate::family::*;
use procession::pool::{TaskError, TaskId, as_completed};
use procession::{Pool, Task};

/// A payload of a panic that panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a payload that panics when it is dropped");
    }
}

#[test]
fn a_task_whose_panic_s_payload_panics_has_panicked() {
    let _dog = watched();
    let pool = Pool::new(1).unwrap();
    let pid = pool.apply(std::process::id, ()).unwrap();
    let error = pool.submit(|| -> () { std::panic::panic_any(Bomb) }, ()).unwrap().get().unwrap_err();
    assert!(matches!(error, TaskError::Panicked { .. }), "{error:?}");
    assert!(pool.map(|_: u32| -> () { std::panic::panic_any(Bomb) }, 0..3).is_err());
    assert_eq!(pool.apply(std::process::id, ()).unwrap(), pid, "the worker lives");
}

#[test]
fn each_callback_is_called_once() {
    let _dog = watched();
    let pool = Pool::new(2).unwrap();
    let (tell, told) = mpsc::channel();
    let tasks: Vec<_> = (0..20u32)
        .map(|n| {
            let task = pool.submit(|n: u32| if n == 7 { die(libc::SIGKILL) } else { n }, (n,)).unwrap();
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
        tasks[0].on_done(|_| std::panic::panic_any(Bomb)).unwrap();
    }
    tasks[0].on_done(move |result| tell.send(result).unwrap()).unwrap();
    assert_eq!(told.recv().unwrap(), Ok(0), "the next callback runs");
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

/// A future that is polled many times still causes a single wake-up.
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
    // This callback runs after the wake-ups that are already registered.
    task.on_done(move |_| tell.send(()).unwrap()).unwrap();
    post(&board.path(), "go", "");
    told.recv().unwrap();
    assert_eq!(counter.0.load(Ordering::SeqCst), 1);
    assert_eq!(Pin::new(&mut task).poll(&mut context), Poll::Ready(Ok(())));
}

#[test]
fn as_completed_yields_tasks_in_order_of_completion() {
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

#[test]
fn the_id_of_a_task_ties_it_to_its_input() {
    let _dog = watched();
    let pools = [Pool::new(1).unwrap(), Pool::new(1).unwrap()];
    let submit = |n: usize| pools[n % 2].submit(|n: usize| n * n, (n,)).unwrap();
    let tasks: Vec<_> = (0..40).map(submit).collect();
    let inputs: HashMap<TaskId, usize> = tasks.iter().zip(0..).map(|(task, n)| (task.id(), n)).collect();
    assert_eq!(inputs.len(), 40, "each task has another id");
    assert!(tasks.iter().all(|task| tasks.iter().filter(|other| *other == task).count() == 1));
    let id = pools[0].apply(|task: Task<usize>| task.id(), (tasks[3].clone(),)).unwrap();
    assert_eq!(id, tasks[3].id(), "the id is the same in another process");
    for task in as_completed(tasks.iter().cloned()) {
        assert_eq!(task.get(), Ok(inputs[&task.id()].pow(2)));
    }
    let mut indices: Vec<usize> = as_completed(tasks)
        .indexed()
        .map(|(index, task)| {
            assert_eq!(task.get(), Ok(index * index));
            index
        })
        .collect();
    indices.sort();
    assert_eq!(indices, (0..40).collect::<Vec<_>>());
}

/// There is one pool for each task, and there are more pools than a single system call can wait for.
#[test]
fn as_completed_yields_tasks_of_many_pools() {
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
    // The first task finishes last.
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

/// The library's callback thread can decode every value that a thread of the program can decode.
#[test]
fn a_callback_has_as_much_stack_as_a_program_thread() {
    let _dog = watched();
    let pool = Pool::new(1).unwrap();
    let chain = |links: u32| (0..links).fold(Chain::End, |chain, _| Chain::Next(Box::new(chain)));
    let task = pool.submit(chain, (4000,)).unwrap();
    // In a build without optimization, decoding takes more than 512 KiB of stack.
    let read = std::thread::scope(|scope| scope.spawn(|| task.get().map(std::mem::forget)).join().unwrap());
    assert_eq!(read, Ok(()));
    let (tell, told) = mpsc::channel();
    task.on_done(move |chain| tell.send(chain.map(std::mem::forget)).unwrap()).unwrap();
    assert_eq!(told.recv().unwrap(), Ok(()));
}
