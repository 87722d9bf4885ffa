//! What a process is given before its function runs, what `spawn` says when that cannot be, and that nothing is
//! left behind by those who die in between.
#![allow(unsafe_code, reason = "asks the kernel, a constructor")]

mod family;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use family::*;
use procession::process::{Builder, StartMethod, Stdio};
use procession::{Error, Failure, Lock, Process};
use procession_testkit::{Audit, Mapping, isolated, proc};

fn environment() -> Vec<(String, String)> {
    std::env::vars().collect()
}

#[test]
fn the_environment_is_changed_as_asked_and_nobody_else_s() {
    let _dog = watched();
    let before = environment();
    let of = |builder: &Builder| builder.spawn(environment, ()).unwrap().join().unwrap();
    let plain = of(&Process::builder());
    let more = of(&Process::builder().env("GIVEN", "ü=;\n").env("PATH", "/nowhere"));
    assert!(
        more.contains(&("GIVEN".into(), "ü=;\n".into()))
            && more.contains(&("PATH".into(), "/nowhere".into()))
    );
    assert_eq!(more.len(), plain.len() + 1);
    let less = of(&Process::builder().env("GIVEN", "1").env_remove("PATH").env_remove("GIVEN"));
    assert!(less.iter().all(|(name, _)| name != "PATH" && name != "GIVEN") && less.len() + 1 == plain.len());
    let few = Process::builder().env("BEFORE", "0").env_clear().env("AFTER", "1").env("AFTER", "2");
    assert_eq!(of(&few), [("AFTER".to_string(), "2".to_string())]);
    // A shell sees it too.
    let shell = || {
        let output = std::process::Command::new("/bin/sh").args(["-c", "echo $AFTER"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(few.spawn(shell, ()).unwrap().join().as_deref(), Ok("2\n"));
    assert_eq!(of(&Process::builder()), plain, "the next one gets what it always got");
    assert_eq!(environment(), before);
}

#[test]
fn the_directory_is_the_one_that_was_asked_for() {
    isolated!({
        let _dog = watched();
        let here = || std::env::current_dir().unwrap().display().to_string();
        let board = Board::new();
        fs::create_dir(format!("{}/below", board.path())).unwrap();
        let p = Process::builder().current_dir(board.path()).spawn(here, ()).unwrap();
        assert_eq!(p.join(), Ok(board.path()));
        std::env::set_current_dir(board.path()).unwrap();
        let p = Process::builder().current_dir("below").spawn(here, ()).unwrap();
        assert_eq!(p.join(), Ok(format!("{}/below", board.path())), "seen from the spawner's");
        let p = Process::builder().nice(1).spawn(here, ()).unwrap();
        assert_eq!(p.join(), Ok(board.path()), "without a wish it is the spawner's");
        std::env::set_current_dir("/").unwrap();
    });
}

#[test]
fn standard_streams_lead_where_they_should() {
    isolated!({
        let _dog = watched();
        let board = Board::new();
        let echo = || {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).unwrap();
            print!("out {line}");
            eprint!("err {line}");
        };
        // Pipes, and a handle that travels has none of them.
        let all = Process::builder().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let p = all.spawn(echo, ()).unwrap();
        assert!(p.clone().take_stdin().is_some() && p.take_stdin().is_none(), "each end once");
        assert_eq!(p.join(), Ok(()));
        let said = |reader: Option<std::io::PipeReader>| std::io::read_to_string(reader.unwrap()).unwrap();
        assert_eq!((said(p.take_stdout()), said(p.take_stderr())), ("out ".into(), "err ".into()));
        for n in 0..3 {
            let p = all.spawn(echo, ()).unwrap();
            write!(p.take_stdin().unwrap(), "{n}\nmore").unwrap();
            assert_eq!(said(p.take_stdout()), format!("out {n}\n"));
            assert_eq!(said(p.take_stderr()), format!("err {n}\n"));
            p.join().unwrap();
        }
        // Files, at the place where they are.
        let path = format!("{}/file", board.path());
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(b"before\n").unwrap();
        let both = file.try_clone().unwrap();
        let p = Process::builder().stdin(Stdio::null()).stdout(file).stderr(both).spawn(echo, ()).unwrap();
        p.join().unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "before\nerr out ",
            "what is printed is written at the end"
        );
        // The pipe of another program, and a socket.
        let mut cat = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let to = cat.stdin.take().unwrap();
        Process::builder()
            .stdin(Stdio::null())
            .stdout(to)
            .spawn(|| println!("through cat"), ())
            .unwrap()
            .join()
            .unwrap();
        let mut text = String::new();
        cat.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), cat.wait().unwrap().success()), ("through cat\n", true));
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        Process::builder().stdout(theirs).spawn(|| print!("by socket"), ()).unwrap().join().unwrap();
        let mut text = String::new();
        ours.read_to_string(&mut text).unwrap();
        assert_eq!(text, "by socket");
    });
}

#[test]
fn a_process_hands_its_own_streams_on() {
    let _dog = watched();
    let inner = || println!("from below");
    let outer = move || {
        // To main's, to ours, to a pipe of ours.
        Process::builder().stdout(Stdio::inherit()).spawn(inner, ()).unwrap().join().unwrap();
        let p = Process::builder().stdout(Stdio::piped()).spawn(inner, ()).unwrap();
        p.join().unwrap();
        print!("{}", std::io::read_to_string(p.take_stdout().unwrap()).unwrap().to_uppercase());
        std::io::stdout().flush().unwrap();
    };
    let p = Process::builder().stdout(Stdio::piped()).spawn(outer, ()).unwrap();
    p.join().unwrap();
    assert_eq!(std::io::read_to_string(p.take_stdout().unwrap()).unwrap(), "from below\nFROM BELOW\n");
}

#[test]
fn no_descriptor_goes_along_but_the_three() {
    isolated!({
        let _dog = watched();
        let fds = || {
            let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
            links
                .filter_map(|e| Some(fs::read_link(e.path()).ok()?.display().to_string()))
                .filter(|to| !to.contains("/proc/"))
                .collect::<Vec<_>>()
        };
        let all = Process::builder().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        for _ in 0..5 {
            let fds = all.spawn(fds, ()).unwrap().join().unwrap();
            assert_eq!(fds.len(), 3, "{fds:?}");
        }
        let plain = Process::spawn(fds, ()).unwrap().join().unwrap();
        assert_eq!(plain.len(), 3, "{plain:?}");
    });
}

#[test]
fn limits_and_ranks_are_given() {
    let _dog = watched();
    let kernel = || {
        // SAFETY: system calls without pointers, but for one to a local.
        unsafe {
            let mut limit: libc::rlimit = std::mem::zeroed();
            libc::getrlimit(libc::RLIMIT_DATA, &raw mut limit);
            let nice = libc::getpriority(libc::PRIO_PROCESS, 0);
            (limit.rlim_cur, limit.rlim_max, nice, libc::getpgid(0), libc::getpid(), procession::cpu_count())
        }
    };
    let all = Process::builder().memory_limit(100 << 20).nice(7).process_group(0).cpu_affinity(&[0]);
    let (soft, hard, nice, group, pid, processors) = all.spawn(kernel, ()).unwrap().join().unwrap();
    assert_eq!((soft, hard, nice, group, processors), (100 << 20, 100 << 20, 7, pid, 1));
    let (_, _, nice, group, pid, _) = Process::spawn(kernel, ()).unwrap().join().unwrap();
    // SAFETY: a system call without pointers.
    assert_eq!((nice, group), (0, unsafe { libc::getpgid(0) }), "{pid}");
}

/// What a spawn says that cannot be.
#[track_caller]
fn refused(builder: &Builder, word: &str) -> Error {
    let ran = |board: String| post(&board, "ran", "");
    let board = Board::new();
    let error = builder.spawn(ran, (board.path(),)).expect_err("it is refused");
    assert!(error.to_string().contains(word), "{error}");
    assert!(board.names().is_empty(), "the function did not run");
    error
}

#[test]
fn an_option_that_cannot_be_honoured_is_an_error_of_spawn() {
    isolated!({
        let _dog = watched();
        let new = Process::builder;
        assert!(matches!(
            refused(&new().current_dir("/no/such"), "/no/such"),
            Error::Os { code: Some(libc::ENOENT), .. }
        ));
        assert!(matches!(
            refused(&new().current_dir("/etc/passwd"), "passwd"),
            Error::Os { code: Some(libc::ENOTDIR), .. }
        ));
        for name in ["", "A=B", "A\0"] {
            assert!(matches!(refused(&new().env(name, ""), "variable"), Error::InvalidArgument(_)));
        }
        refused(&new().env("A", "\0"), "zero byte");
        refused(&new().cpu_affinity(&[]), "at least one");
        refused(&new().cpu_affinity(&[0, 4000]), "4000");
        refused(&new().cpu_affinity(&[usize::MAX]), "processors");
        refused(&new().nice(20), "-20 to 19");
        refused(&new().process_group(-1), "process group");
        refused(&new().process_group(1), "process group 1");
        assert!(matches!(refused(&new().memory_limit(1), "too low"), Error::InvalidArgument(_)));
        let lock = Lock::new().unwrap();
        assert_eq!(Process::spawn(|lock: Lock| lock.lock().is_ok(), (lock,)).unwrap().join(), Ok(true));
    });
}

#[test]
fn a_stream_that_is_closed_cannot_be_inherited() {
    isolated!({
        let _dog = watched();
        let inner = || {
            // SAFETY: closes a standard stream of this process, which is about to end.
            unsafe { libc::close(0) };
            let error = Process::builder().stdin(Stdio::inherit()).spawn(|| (), ()).expect_err("no stdin");
            (error.to_string(), Process::spawn(|| 3, ()).unwrap().join().unwrap())
        };
        let (error, after) = Process::spawn(inner, ()).unwrap().join().unwrap();
        assert!(error.contains("descriptor"), "{error}");
        assert_eq!(after, 3);
    });
}

#[test]
fn a_child_in_another_network_cannot_be_sent_descriptors() {
    isolated!({
        let _dog = watched();
        let alone = || {
            // SAFETY: a system call without pointers.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return None;
            }
            Some(Process::builder().stdout(Stdio::piped()).spawn(|| (), ()).expect_err("no way").to_string())
        };
        match Process::spawn(alone, ()).unwrap().join().unwrap() {
            Some(error) => assert!(error.contains("network namespace"), "{error}"),
            None => println!("not allowed to try"),
        }
    });
}

/// All that options and pipes can be, again and again.
fn everything() -> Builder {
    let all = Process::builder().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    all.env("A", "1").current_dir("/").nice(1).memory_limit(1 << 30).cpu_affinity(&[0])
}

#[test]
fn nothing_leaks() {
    isolated!({
        let _dog = watched();
        let (addr, len, fd) = procession::internals::mapping();
        let round = || {
            let p = everything().spawn(|a: Vec<u8>| a.len(), (vec![1; 5000],)).unwrap();
            assert_eq!(p.join(), Ok(5000));
            refused(&everything().current_dir("/no/such"), "/no/such");
            refused(&everything().nice(20), "nice");
        };
        (0..20).for_each(|_| round());
        let audit = Audit::start(Some(Mapping { addr, len, fd })).allow_bytes(256 << 10);
        let census = procession::internals::census();
        (0..100).for_each(|_| round());
        audit.assert_back();
        until("all is freed", || procession::internals::census().blocks.len() <= census.blocks.len());
        assert!(procession::internals::census().objects <= census.objects);
    });
}

/// Children are killed while they are given their options: they are replaced, or their end is told.
#[test]
fn children_that_die_while_they_are_prepared_are_replaced_or_told() {
    isolated!({
        let _dog = watched();
        let supervisor = supervisor();
        static DONE: AtomicBool = AtomicBool::new(false);
        let killer = std::thread::spawn(move || {
            let mut killed = 0u32;
            while !DONE.load(Ordering::SeqCst) {
                for pid in proc::children(supervisor) {
                    send(pid, libc::SIGKILL);
                    killed += 1;
                }
                std::thread::sleep(std::time::Duration::from_millis(3));
            }
            killed
        });
        let (mut ran, mut failed) = (0, 0);
        while ran < 40 || failed < 5 {
            match everything().spawn(|| 7, ()) {
                Ok(p) => match p.join() {
                    Ok(value) => {
                        assert_eq!(value, 7);
                        ran += 1;
                    }
                    Err(e) => {
                        assert!(matches!(e.failure(), Failure::Killed { signal: 9, .. }), "{e}");
                        failed += 1;
                    }
                },
                Err(e) => {
                    println!("{e}");
                    failed += 1;
                }
            }
        }
        DONE.store(true, Ordering::SeqCst);
        assert!(killer.join().unwrap() > 5);
        let audit = Audit::start(None);
        everything().spawn(|| (), ()).unwrap().join().unwrap();
        audit.assert_back();
    });
}

/// A spawner is killed again and again while it spawns with options; what it had begun ends.
#[test]
fn spawners_that_die_leave_nothing() {
    isolated!({
        let _dog = watched();
        let spawner = || -> () {
            loop {
                let p = everything().spawn(|| (), ()).unwrap();
                assert_eq!(p.join(), Ok(()));
            }
        };
        let audit_after = |rounds: u32| {
            for round in 0..rounds {
                let p = Process::builder().name("spawner").daemon(true).spawn(spawner, ()).unwrap();
                until("it spawns", || {
                    p.pid().is_some_and(|pid| proc::comm(pid).as_deref() == Some("spawner"))
                });
                (0..round * 20_000).for_each(|_| std::hint::spin_loop());
                kill(&p);
            }
        };
        audit_after(5);
        let supervisor = supervisor();
        let fds = || fs::read_dir(format!("/proc/{supervisor}/fd")).unwrap().count();
        let before = (procession::internals::census().objects, fds());
        audit_after(40);
        until("nothing is left", || {
            let living = proc::children(supervisor)
                .into_iter()
                .filter(|&pid| proc::comm(pid).as_deref() != Some("procession-sup"));
            living.count() == 0 && procession::internals::census().objects <= before.0
        });
        assert_eq!(fds(), before.1);
        assert_eq!(everything().spawn(|| 1, ()).unwrap().join(), Ok(1));
    });
}

#[test]
fn the_supervisor_dies_while_options_are_given() {
    isolated!({
        let _dog = watched();
        for round in 0..8u32 {
            let old = supervisor();
            let killer = std::thread::spawn(move || {
                (0..round * 30_000).for_each(|_| std::hint::spin_loop());
                send(old, libc::SIGKILL);
            });
            let lost = loop {
                match everything().spawn(|| 7, ()).map(|p| p.join()) {
                    Ok(Ok(7)) => {}
                    Ok(Err(e)) if e.failure() == &Failure::FamilyLost => break true,
                    Err(Error::FamilyLost) => break true,
                    other => panic!("{other:?}"),
                }
                if killer.is_finished() {
                    break false;
                }
            };
            killer.join().unwrap();
            println!("round {round}: lost {lost}");
            spawn_again(old);
        }
        let fds = fs::read_dir("/proc/self/fd").unwrap().count();
        assert!(fds < 12, "{fds} descriptors are open");
    });
}

#[test]
fn main_dies_while_options_are_given() {
    let _dog = watched();
    if role().is_some() {
        loop {
            everything().spawn(|| (), ()).unwrap().join().unwrap();
            let _ = std::io::stdout().as_raw_fd();
        }
    }
    for round in 0..6u32 {
        let board = Board::new();
        let mut main = Running::start(&mut program("main", &board));
        until("it spawns", || members(&board).len() > 3);
        (0..round * 100_000).for_each(|_| std::hint::spin_loop());
        send(main.pid(), libc::SIGKILL);
        main.end();
        until_nothing_is_left(&board);
    }
}

/// Where something lies in this process.
static HERE: AtomicBool = AtomicBool::new(false);

#[test]
fn a_process_can_execute_the_program_anew() {
    isolated!(env = [("FROM_OUTSIDE", "a")], {
        let _dog = watched();
        HERE.store(true, Ordering::SeqCst);
        let fresh = || Process::builder().start_method(StartMethod::Spawn);
        let look = || {
            let at = &raw const HERE as usize;
            (
                HERE.load(Ordering::SeqCst),
                at,
                environment(),
                std::env::args().count(),
                fs::read_dir("/proc/self/fd").unwrap().count(),
            )
        };
        let (_, forked_at, env, args, fds) = Process::spawn(look, ()).unwrap().join().unwrap();
        let mut places = std::collections::BTreeSet::new();
        for _ in 0..4 {
            let p = fresh().name("anew").spawn(look, ()).unwrap();
            let (here, at, its_env, its_args, its_fds) = p.join().unwrap();
            assert_eq!((here, its_args, its_fds), (false, args, fds));
            assert_eq!(its_env, env, "exactly main's, and nothing private");
            places.insert(at);
        }
        assert!(
            places.len() > 1 || places.contains(&forked_at),
            "laid out anew where the kernel does that: {places:?}"
        );
        // What every process can do.
        let lock = Lock::new().unwrap();
        let nested = |lock: Lock| {
            let _held = lock.lock().unwrap();
            let me = procession::current_process().unwrap();
            let below =
                Process::builder().start_method(StartMethod::Spawn).spawn(|n: u64| n * 2, (21,)).unwrap();
            (below.join().unwrap(), me.name(), procession::parent_process().unwrap().map(|p| p.name()))
        };
        let p = fresh().name("outer").spawn(nested, (lock.clone(),)).unwrap();
        assert_eq!(p.join(), Ok((42, "outer".into(), Some("main".into()))));
        let panics = fresh().spawn(|| -> () { panic!("no") }, ()).unwrap().join().unwrap_err();
        assert!(matches!(panics.failure(), Failure::Panicked { message, .. } if message == "no"), "{panics}");
        let holder = fresh()
            .spawn(
                |lock: Lock| {
                    std::mem::forget(lock.lock());
                    forever()
                },
                (lock.clone(),),
            )
            .unwrap();
        until("the lock is held", || lock.try_lock().is_err());
        holder.kill().unwrap();
        holder.join().unwrap_err();
        assert!(lock.lock_or_recover().unwrap().recovered_from().is_some());
    });
}

#[test]
fn a_fresh_process_has_its_options_and_its_signals() {
    isolated!({
        let _dog = watched();
        let all = everything().start_method(StartMethod::Spawn).process_group(0);
        let look = || {
            println!("said");
            let line = std::io::read_to_string(std::io::stdin()).unwrap();
            // SAFETY: system calls without pointers.
            let (nice, group, pid) =
                unsafe { (libc::getpriority(libc::PRIO_PROCESS, 0), libc::getpgid(0), libc::getpid()) };
            let here = std::env::current_dir().unwrap().display().to_string();
            (line, std::env::var("A").unwrap(), here, nice, group == pid, procession::cpu_count())
        };
        let p = all.spawn(look, ()).unwrap();
        p.take_stdin().unwrap().write_all(b"heard").unwrap();
        assert_eq!(p.join(), Ok(("heard".into(), "1".into(), "/".into(), 1, true, 1)));
        assert_eq!(std::io::read_to_string(p.take_stdout().unwrap()).unwrap(), "said\n");
        let fresh = Process::builder().start_method(StartMethod::Spawn).daemon(true);
        let p = fresh.spawn(forever, ()).unwrap();
        p.terminate().unwrap();
        assert!(matches!(p.join().unwrap_err().failure(), Failure::Killed { signal: 15, .. }));
        refused(&fresh.clone().current_dir("/no/such"), "/no/such");
    });
}

/// Names a file with a number: so many times a process that executes the program dies in its constructor.
const DIES: &str = "DIES_IN_ITS_CONSTRUCTOR";

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = die_if_asked;

extern "C" fn die_if_asked() {
    let Some(file) = std::env::var_os(DIES) else { return };
    let left: u32 = fs::read_to_string(&file).unwrap().parse().unwrap();
    if left > 0 {
        fs::write(&file, (left - 1).to_string()).unwrap();
        send(std::process::id() as i32, libc::SIGKILL);
    }
}

/// Children are killed while they execute the program anew: another takes the place of each, up to the third.
#[test]
fn fresh_processes_that_are_killed_while_they_begin_are_replaced_or_told() {
    isolated!({
        let _dog = watched();
        let old = supervisor();
        let audit = Audit::start(None);
        let board = Board::new();
        let file = format!("{}/left", board.path());
        let fresh = everything().env(DIES, &file).start_method(StartMethod::Spawn);
        for deaths in [0, 1, 2, 3, 0] {
            fs::write(&file, deaths.to_string()).unwrap();
            match fresh.spawn(|| 7, ()) {
                Ok(p) => {
                    assert!(deaths < 3);
                    assert_eq!((p.join(), fs::read_to_string(&file).unwrap().as_str()), (Ok(7), "0"));
                }
                Err(error) => {
                    assert_eq!(deaths, 3, "{error}");
                    assert!(error.to_string().contains("signal 9"), "{error}");
                }
            }
        }
        drop((fresh, board));
        send(old, libc::SIGKILL);
        spawn_again(old);
        send(supervisor(), libc::SIGKILL);
        until("all are gone", || proc::descendants(std::process::id() as i32).is_empty());
        audit.assert_back();
    });
}

#[test]
fn a_program_that_finds_the_private_variable_of_another_runs_as_usual() {
    let _dog = watched();
    if role().is_some() {
        return println!("as usual, {:?}", Process::spawn(|| 5, ()).unwrap().join());
    }
    let board = Board::new();
    for value in ["", "x", "0 1 2 3", "ffff 1 1 0"] {
        let text = succeeds(program("main", &board).env("PROCESSION_CHILD", value));
        assert!(text.contains("as usual, Ok(5)"), "{text}");
    }
}

/// What a process has started ends with it, however it was made and whatever group it is in.
#[test]
#[expect(clippy::zombie_processes, reason = "nobody waits: that is what this is about")]
fn what_a_dead_process_had_started_ends_too() {
    isolated!({
        let _dog = watched();
        let starts = |board: String| -> () {
            let sleep = |word: &str| {
                let script = format!("setsid sleep 1000 & echo $!; exec {word}");
                let mut shell = std::process::Command::new("sh");
                let mut shell =
                    shell.args(["-c", &script]).stdout(std::process::Stdio::piped()).spawn().unwrap();
                let mut line = String::new();
                std::io::BufRead::read_line(
                    &mut std::io::BufReader::new(shell.stdout.take().unwrap()),
                    &mut line,
                )
                .unwrap();
                (shell.id(), line.trim().to_owned())
            };
            let ((one, other), (_, orphan)) = (sleep("sleep 1000"), sleep("true"));
            post(&board, "pids", format!("{one} {other} {orphan}"));
            forever()
        };
        for builder in [
            Process::builder(),
            Process::builder().process_group(0),
            Process::builder().start_method(StartMethod::Spawn),
        ] {
            let board = Board::new();
            let p = builder.daemon(true).spawn(starts, (board.path(),)).unwrap();
            let pids: Vec<i32> = board.wait("pids").split(' ').map(|pid| pid.parse().unwrap()).collect();
            assert_eq!(pids.len(), 3);
            kill(&p);
            until_gone(&pids);
        }
    });
}
