//! Scarce resources: descriptors, address space, file size, processes, memory. Each operation either succeeds
//! with few resources, or its error names the limit.

use std::time::Duration;

use crate::family::*;
use procession::{Error, Lock, Process};
use procession_testkit::isolated;

/// Runs a small family that uses several kinds of objects.
fn works() {
    let lock = Lock::new().unwrap();
    let held = lock.lock().unwrap();
    let takes = |lock: Lock, bytes: Vec<u8>| lock.lock().map(|_| bytes.len()).unwrap();
    let p = Process::spawn(takes, (lock.clone(), vec![7; 100_000])).unwrap();
    assert_eq!(p.join_timeout(Duration::from_millis(5)), Ok(None));
    drop(held);
    assert_eq!(p.join(), Ok(100_000));
    let p = sleeper();
    p.kill().unwrap();
    assert!(p.join().unwrap_err().to_string().contains("signal 9"));
    for n in 0..50 {
        assert_eq!(Process::spawn(|n: u32| n, (n,)).unwrap().join(), Ok(n));
    }
}

#[test]
fn hundreds_of_processes_need_at_most_64_descriptors() {
    isolated!(limits = [(libc::RLIMIT_NOFILE, 64)], {
        works();
        let crowd: Vec<_> = (0..300).map(|_| sleeper()).collect();
        crowd.iter().for_each(|p| p.kill().unwrap());
        crowd.iter().for_each(|p| assert!(p.join().unwrap_err().to_string().contains("signal 9")));
    });
}

#[test]
fn running_out_of_descriptors_is_an_error() {
    isolated!(limits = [(libc::RLIMIT_NOFILE, 32)], {
        let mut files = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            files.push(file);
        }
        let refused = Process::spawn(|| 1, ()).expect_err("no descriptor is left");
        assert!(matches!(&refused, Error::Os { code: Some(libc::EMFILE), .. }), "{refused:?}");
        drop(files);
        works();
    });
}

#[test]
fn a_family_works_in_two_gib_of_address_space() {
    isolated!(limits = [(libc::RLIMIT_AS, 2 << 30)], {
        works();
        let crowd: Vec<_> = (0..100).map(|_| sleeper()).collect();
        crowd.iter().for_each(|p| p.kill().unwrap());
        crowd.iter().for_each(|p| drop(p.join().unwrap_err()));
    });
}

#[test]
fn a_family_works_in_600_mib_of_address_space() {
    isolated!(limits = [(libc::RLIMIT_AS, 600 << 20)], {
        works();
        let big = |bytes: Vec<u8>| bytes.len();
        assert_eq!(Process::spawn(big, (vec![1; 20 << 20],)).unwrap().join(), Ok(20 << 20));
        works();
    });
}

#[test]
fn a_family_works_with_files_of_at_most_64_mib() {
    isolated!(limits = [(libc::RLIMIT_FSIZE, 64 << 20)], {
        works();
    });
}

/// Asserts that the family works under the limit, or that the error names the limit.
fn works_or_says_why() {
    match Lock::new() {
        Ok(_) => works(),
        Err(error @ (Error::Full(_) | Error::Os { .. })) => {
            let text = error.to_string();
            assert!(text.contains("shared memory"), "{text}");
            let again = Process::spawn(|| 1, ()).expect_err("no shared memory is left");
            assert!(matches!(again, Error::Full(_) | Error::Os { .. }), "{again:?}");
        }
        Err(error) => panic!("{error:?}"),
    }
}

macro_rules! small_files {
    ($($name:ident = $bytes:expr),*) => {$(
        #[test]
        fn $name() {
            isolated!(limits = [(libc::RLIMIT_FSIZE, $bytes)], {
                works_or_says_why();
            });
        }
    )*};
}

small_files!(
    a_family_reports_a_file_size_limit_of_a_page = 4096,
    a_family_copes_with_a_file_size_limit_below_a_mib = (1 << 20) - 1,
    a_family_copes_with_a_file_size_limit_of_a_mib = 1 << 20,
    a_family_copes_with_a_file_size_limit_of_16_mib = 16 << 20
);

#[test]
fn an_error_names_the_file_size_limit() {
    isolated!(limits = [(libc::RLIMIT_FSIZE, 64 << 10)], {
        let error = Lock::new().expect_err("64 KiB are too little");
        assert!(matches!(&error, Error::Full(text) if text.contains("ulimit -f")), "{error:?}");
        assert!(Lock::new().is_err(), "the second attempt fails too");
    });
}

#[test]
fn running_out_of_slots_is_an_error() {
    // The smallest family has room for 24 processes, including main and the spares.
    isolated!(limits = [(libc::RLIMIT_FSIZE, 2 << 20)], {
        for _ in 0..3 {
            let mut crowd = Vec::new();
            let refused = loop {
                match Process::builder().daemon(true).spawn(forever, ()) {
                    Ok(p) => crowd.push(p),
                    Err(error) => break error,
                }
            };
            assert!(matches!(&refused, Error::Full(text) if text.contains("processes")), "{refused:?}");
            assert!(crowd.len() >= 16, "only {} processes fitted", crowd.len());
            assert!(crowd.iter().all(Process::is_alive));
            crowd.iter().for_each(|p| p.kill().unwrap());
            crowd.iter().for_each(|p| drop(p.join().unwrap_err()));
            until("a slot is free again", || Process::spawn(|| 1, ()).is_ok_and(|p| p.join() == Ok(1)));
        }
    });
}

#[test]
fn an_argument_larger_than_the_arena_is_refused() {
    isolated!(limits = [(libc::RLIMIT_FSIZE, 64 << 20)], {
        let len = |bytes: Vec<u8>| bytes.len();
        for _ in 0..3 {
            let refused = Process::spawn(len, (vec![1; 100 << 20],)).expect_err("the argument does not fit");
            assert!(matches!(refused, Error::Full(_)), "{refused:?}");
            assert_eq!(
                Process::spawn(len, (vec![1; 20 << 20],)).unwrap().join(),
                Ok(20 << 20),
                "nothing was lost"
            );
        }
        let grows = |len: usize| vec![1u8; len];
        let error = Process::spawn(grows, (100 << 20,)).unwrap().join().expect_err("the result does not fit");
        assert!(error.to_string().contains("memory"), "{error}");
        assert_eq!(Process::spawn(grows, (20 << 20,)).unwrap().join().map(|v| v.len()), Ok(20 << 20));
    });
}

#[test]
fn running_out_of_objects_is_an_error() {
    isolated!(limits = [(libc::RLIMIT_FSIZE, 2 << 20)], {
        for _ in 0..3 {
            let mut locks = Vec::new();
            let refused = loop {
                match Lock::new() {
                    Ok(lock) => locks.push(lock),
                    Err(error) => break error,
                }
            };
            assert!(matches!(&refused, Error::Full(text) if text.contains("objects")), "{refused:?}");
            assert!(locks.len() > 400, "only {} locks fitted", locks.len());
            assert!(matches!(Process::spawn(|| 1, ()), Err(Error::Full(_))));
            drop(locks);
            assert_eq!(Process::spawn(|| 1, ()).unwrap().join(), Ok(1));
            // Recovery frees the object of the process itself only after `join` has returned.
            until("the process's objects are freed", || procession::internals::objects() == 0);
        }
    });
}

#[test]
fn reaching_the_system_s_process_limit_is_an_error() {
    let _dog = watched();
    if role().is_some() {
        let mut crowd = Vec::new();
        let refused = loop {
            match Process::builder().daemon(true).spawn(forever, ()) {
                Ok(p) => crowd.push(p),
                Err(error) => break error,
            }
            assert!(crowd.len() < 200, "the limit does not hold");
        };
        assert!(matches!(&refused, Error::Os { code: Some(libc::EAGAIN), .. }), "{refused:?}");
        crowd.iter().for_each(|p| p.kill().unwrap());
        crowd.iter().for_each(|p| drop(p.join().unwrap_err()));
        until("the limit permits a process again", || {
            Process::spawn(|| 1, ()).is_ok_and(|p| p.join() == Ok(1))
        });
        return;
    }
    // Root has no such limit, so the test needs another user that runs no other process.
    let board = Board::new();
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=23456", "--regid=23456", "--clear-groups", "prlimit", "--nproc=30"]);
    let program = program("main", &board);
    command.arg(program.get_program()).args(program.get_args());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => return eprintln!("SKIPPED: no setpriv: {error}"),
    };
    let text = text_of(&output);
    if text.contains("setpriv:") || text.contains("prlimit:") {
        return eprintln!("SKIPPED: cannot become another user: {text}");
    }
    assert!(output.status.success(), "{text}");
}
