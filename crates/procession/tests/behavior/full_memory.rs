//! A family whose shared memory is full. Every operation that needs memory fails with an error that names the
//! largest holders and converts to `Error::Full`. Operations that need no memory succeed.

use procession::pool::TaskError;
use procession::queue::PutError;
use procession::sync::LockError;
use procession::{
    Array, Dict, Error, Failure, JoinableQueue, List, Lock, Manager, Mutex, Pool, Process, Queue, Value, pipe,
};
use procession_testkit::isolated;

const LONG_TEXT: usize = 100_000;

fn long() -> String {
    "x".repeat(LONG_TEXT)
}

/// Fills the shared memory with messages of a queue, starting with large ones.
fn fill() -> Queue<Vec<u8>> {
    let hoard = Queue::unbounded().unwrap();
    let mut bytes = 1 << 20;
    while bytes > 0 {
        match hoard.try_put(vec![7; bytes]) {
            Ok(()) => {}
            Err(PutError::NoMemory(item, why)) => {
                assert_eq!(item.len(), bytes, "the item comes back");
                names_the_holder(&why);
                bytes = bytes * 3 / 4;
            }
            Err(other) => panic!("{bytes} bytes: {other:?}"),
        }
    }
    hoard
}

#[track_caller]
fn names_the_holder(why: &str) {
    assert!(why.contains("shared memory of"), "{why}");
    assert!(why.contains("queue without a name"), "{why}");
    assert!(!why.contains("the queue is full"), "{why}");
}

#[track_caller]
fn is_full<T>(result: Result<T, impl Into<Error>>) {
    match result.map_err(Into::into) {
        Err(Error::Full(why)) => names_the_holder(&why),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("there was room"),
    }
}

#[test]
fn queues_and_pipes_report_full_memory() {
    isolated!(limits = [(libc::RLIMIT_FSIZE, 16 << 20)], {
        let (unbounded, bounded) = (Queue::unbounded().unwrap(), Queue::bounded(1000).unwrap());
        let (jobs, (a, b)) = (JoinableQueue::unbounded().unwrap(), pipe::<String, u8>().unwrap());
        let (bytes, lock) = (Queue::<Vec<u8>>::bounded_bytes(8 << 20).unwrap(), Lock::new().unwrap());
        jobs.put(String::new()).unwrap();
        let hoard = fill();
        is_full(unbounded.put(long()));
        is_full(unbounded.try_put(long()));
        is_full(unbounded.put_many([long()]));
        is_full(bounded.put(long()));
        is_full(bounded.try_put_many([long(), long()]));
        is_full(bytes.put_with(LONG_TEXT, |_| ()));
        is_full(jobs.put(long()));
        is_full(jobs.try_put(long()));
        is_full(a.send(long()));
        is_full(a.try_send(long()));
        let text = unbounded.put(long()).unwrap_err().to_string();
        names_the_holder(&text);
        // Operations that need no memory succeed.
        drop(lock.lock().unwrap());
        assert_eq!((unbounded.len(), bounded.len(), b.poll()), (0, 0, false));
        // The first lease of a queue needs memory for its cell.
        is_full(jobs.get());
        assert_eq!(jobs.len(), 1, "no item was taken");
        // Everything works again after memory is freed.
        drop(hoard);
        jobs.get().unwrap().done().unwrap();
        unbounded.put(long()).unwrap();
        a.send(long()).unwrap();
        assert_eq!((unbounded.get().unwrap().len(), b.recv().unwrap().len()), (LONG_TEXT, LONG_TEXT));
    });
}

#[test]
fn shared_state_reports_full_memory() {
    isolated!(limits = [(libc::RLIMIT_FSIZE, 16 << 20)], {
        let (dict, list) = (Dict::<u32, String>::new().unwrap(), List::<String>::new().unwrap());
        let (value, mutex) = (Value::new(String::new()).unwrap(), Mutex::new(0u64).unwrap());
        dict.insert(&1, "one".into()).unwrap();
        list.push("one".into()).unwrap();
        let _hoard = fill();
        is_full(dict.insert(&1, long()));
        is_full(dict.insert(&2, long()));
        is_full(dict.update(&1, |text| *text = long()));
        is_full(dict.get_or_insert_with(&3, long));
        is_full(list.push(long()));
        is_full(list.insert(0, long()));
        is_full(list.set(0, long()));
        is_full(list.extend([long()]));
        is_full(value.set(long()));
        is_full(value.update(|text| *text = long()));
        is_full(Array::<u64>::new(LONG_TEXT));
        is_full(Dict::from_entries([(1, long())]));
        is_full(List::from_items([long()]));
        is_full(Value::new(long()));
        is_full(Manager::new().and_then(|manager| manager.value(long())));
        assert_eq!(dict.get(&1).unwrap().as_deref(), Some("one"), "the old value is there");
        assert_eq!((list.to_vec().unwrap(), value.get().unwrap()), (vec!["one".to_string()], String::new()));
        *mutex.lock().unwrap() += 1;
    });
}

#[test]
fn a_spawn_reports_full_memory() {
    isolated!(limits = [(libc::RLIMIT_FSIZE, 16 << 20)], {
        let go_on = Queue::<()>::bounded(1).unwrap();
        let returns = |go_on: Queue<()>| {
            go_on.get().unwrap();
            long()
        };
        let p = Process::spawn(returns, (go_on.clone(),)).unwrap();
        let hoard = fill();
        is_full(Process::spawn(|text: String| text.len(), (long(),)));
        is_full(Process::builder().nice(1).spawn(|text: String| text.len(), (long(),)));
        go_on.put(()).unwrap();
        let error = p.join().expect_err("its result does not fit");
        assert!(matches!(error.failure(), Failure::Undecodable { .. }), "{error:?}");
        names_the_holder(&error.to_string());
        drop(hoard);
        assert_eq!(Process::spawn(|text: String| text.len(), (long(),)).unwrap().join(), Ok(LONG_TEXT));
    });
}

#[test]
fn a_pool_reports_full_memory() {
    isolated!(limits = [(libc::RLIMIT_FSIZE, 16 << 20)], {
        let pool = Pool::new(1).unwrap();
        assert_eq!(pool.apply(|| 1, ()), Ok(1));
        let hoard = fill();
        is_full(pool.submit(|text: String| text.len(), (long(),)));
        is_full(pool.apply(|text: String| text.len(), (long(),)));
        let error = pool.map(|text: String| text.len(), [long()]).unwrap_err().error;
        is_full(Err::<(), TaskError>(error));
        is_full(pool.try_map(|text: String| text.len(), [long()]).remove(0));
        is_full(pool.imap(|text: String| text.len(), [long()]).next().unwrap());
        is_full(pool.apply(long, ()));
        is_full(Pool::builder().initializer(|_: String| (), (long(),)).build());
        drop(hoard);
        assert_eq!(pool.apply(|text: String| text.len(), (long(),)), Ok(LONG_TEXT));
        assert_eq!(pool.apply(long, ()).map(|text| text.len()), Ok(LONG_TEXT));
    });
}

#[test]
fn locks_beyond_the_journal_report_full_memory() {
    isolated!(limits = [(libc::RLIMIT_FSIZE, 16 << 20)], {
        let locks: Vec<Lock> = (0..2000).map(|_| Lock::new().unwrap()).collect();
        let _hoard = fill();
        let held: Vec<_> = locks.iter().map(Lock::lock).collect();
        // The thread's record has room for the first locks.
        assert!(held[0].is_ok());
        match held.iter().find_map(|held| held.as_ref().err()) {
            Some(LockError::Full(why)) => names_the_holder(why),
            other => panic!("{other:?}"),
        }
    });
}
