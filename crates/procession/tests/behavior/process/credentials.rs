//! A process has the user, groups, capabilities and restrictions that its spawner has at the time of the
//! spawn. Otherwise the spawn fails. Whatever a member of the family changes, no operation waits for ever.
#![allow(unsafe_code, reason = "system calls that change credentials")]

use std::fs;
use std::io;
use std::time::Duration;

use crate::family::*;
use procession::pool::TaskError;
use procession::process::StartMethod;
use procession::{Pool, Process, Result};
use procession_testkit::isolated;

/// The id of an ordinary user and group.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    // SAFETY: a plain call.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        eprintln!("SKIPPED: changing credentials needs root");
    }
    root
}

fn ok(value: i64) {
    assert_eq!(value, 0, "{}", io::Error::last_os_error());
}

/// Sets the effective, permitted and inheritable capabilities.
fn set_capabilities(effective: u32, permitted: u32, inheritable: u32) {
    let (header, sets) = ([0x2008_0522u32, 0], [effective, permitted, inheritable, 0, 0, 0]);
    // SAFETY: both arrays have the sizes that this version of the interface requires.
    ok(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) });
}

const NET_BIND_SERVICE: u32 = 10;

/// Changes a credential of this thread.
fn change(what: &str) {
    // SAFETY: calls with numbers, and with a list whose length is passed.
    unsafe {
        match what {
            "user" => {
                ok(libc::setgid(NOBODY).into());
                ok(libc::setgroups(0, std::ptr::null()).into());
                ok(libc::setuid(NOBODY).into());
            }
            "effective user" => {
                ok(libc::setegid(NOBODY).into());
                ok(libc::seteuid(NOBODY).into());
            }
            "file access" => drop(libc::setfsuid(NOBODY)),
            "groups" => ok(libc::setgroups(3, [7, 9, 1000].as_ptr()).into()),
            "keep capabilities" => ok(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0).into()),
            "no new privileges" => ok(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into()),
            "bounding set" => {
                (0..40).filter(|&capability| capability != NET_BIND_SERVICE).for_each(|capability| {
                    ok(libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0).into());
                })
            }
            "no capabilities" => set_capabilities(0, 0, 0),
            "ambient capability" => {
                let one = 1 << NET_BIND_SERVICE;
                set_capabilities(one, one, one);
                ok(libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, NET_BIND_SERVICE, 0, 0)
                    .into());
            }
            "securebits" => ok(libc::prctl(libc::PR_SET_SECUREBITS, 0x2f, 0, 0, 0).into()),
            other => panic!("{other} is not among the changes"),
        }
    }
}

/// Returns the credentials of this process as the kernel reports them.
fn credentials() -> String {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let about = ["Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:"];
    let lines = status.lines().filter(|line| about.iter().any(|start| line.starts_with(start)));
    // SAFETY: a plain call.
    let bits = unsafe { libc::prctl(libc::PR_GET_SECUREBITS, 0, 0, 0, 0) };
    format!("{}\nsecurebits: {bits:x}", lines.collect::<Vec<_>>().join("\n"))
}

/// Spawns in every way, and asserts that each process has exactly this thread's credentials.
#[track_caller]
fn children_have_mine() {
    let mine = credentials();
    let same = |p: Result<Process<String>>| assert_eq!(p.unwrap().join().unwrap(), mine);
    // Spawns more processes than there are spares.
    for _ in 0..6 {
        same(Process::spawn(credentials, ()));
    }
    same(Process::builder().start_method(StartMethod::Spawn).spawn(credentials, ()));
    same(Process::builder().nice(5).env("A", "1").spawn(credentials, ()));
    let grandchild = || Process::spawn(credentials, ()).unwrap().join().unwrap();
    same(Process::spawn(grandchild, ()));
}

/// The changes of credentials that each program makes, one after the other.
const CHANGES: [&[&str]; 11] = [
    &["user"],
    &["effective user"],
    &["file access"],
    &["groups"],
    &["no new privileges"],
    &["bounding set"],
    &["no capabilities"],
    &["securebits", "user"],
    &["keep capabilities", "user"],
    &["keep capabilities", "user", "ambient capability"],
    &["groups", "bounding set", "keep capabilities", "user", "no capabilities", "no new privileges"],
];

#[test]
fn a_process_has_the_credentials_of_its_spawner_at_that_time() {
    let _dog = watched();
    if let Some(role) = role() {
        assert_eq!(Process::spawn(|| 1, ()).unwrap().join(), Ok(1));
        CHANGES[role.parse::<usize>().unwrap()].iter().copied().for_each(change);
        return children_have_mine();
    }
    if !is_root() {
        return;
    }
    for number in 0..CHANGES.len() {
        let board = Board::new();
        fs::set_permissions(board.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        succeeds(&mut program(&number.to_string(), &board));
        until_nothing_is_left(&board);
    }
}

#[test]
fn a_family_launched_after_a_change_has_main_s_credentials() {
    let _dog = watched();
    if let Some(role) = role() {
        CHANGES[role.parse::<usize>().unwrap()].iter().copied().for_each(change);
        match Process::spawn(|| 1, ()) {
            Ok(p) => {
                assert_eq!(p.join(), Ok(1));
                children_have_mine();
                println!("given");
            }
            Err(e) => println!("refused: {e}"),
        }
        return;
    }
    if !is_root() {
        return;
    }
    for (number, changes) in CHANGES.iter().enumerate() {
        let board = Board::new();
        fs::set_permissions(board.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let text = succeeds(&mut program(&number.to_string(), &board));
        // Executing a program removes capabilities that are not in the bounding set. For a user that is not root, it
        // also removes those that are not ambient. A program whose real and effective users differ does not trust its
        // environment.
        let refused = match **changes {
            ["effective user"] => "not its real one",
            ["bounding set"] | ["securebits", "user"] | ["keep capabilities", "user"] => "the capabilities",
            _ => "",
        };
        match refused {
            "" => assert!(text.contains("given\n"), "{changes:?}: {text}"),
            why => assert!(text.contains("refused: ") && text.contains(why), "{changes:?}: {text}"),
        }
        until_nothing_is_left(&board);
    }
}

#[test]
fn a_bounding_set_that_differs_between_threads_is_noticed() {
    let _dog = watched();
    if role().is_some() {
        let (launched, go_on) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            go_on.recv().unwrap();
            change("bounding set");
            change("no capabilities");
            let mine = credentials();
            match Process::spawn(credentials, ()) {
                Ok(p) => assert_eq!(p.join().unwrap(), mine),
                Err(e) => assert!(e.to_string().contains("the bounding set"), "{e}"),
            }
        });
        // This thread drops its capabilities before it launches the supervisor. So the supervisor and the
        // other thread differ only in the bounding set.
        change("no capabilities");
        assert_eq!(Process::spawn(|| 1, ()).unwrap().join(), Ok(1));
        launched.send(()).unwrap();
        return other.join().unwrap();
    }
    if !is_root() {
        return;
    }
    let board = Board::new();
    fs::set_permissions(board.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    succeeds(&mut program("two threads", &board));
    until_nothing_is_left(&board);
}

#[test]
fn an_ordinary_user_can_drop_privileges() {
    let _dog = watched();
    if role().is_some() {
        assert_eq!(Process::spawn(|| 1, ()).unwrap().join(), Ok(1));
        change("no new privileges");
        return children_have_mine();
    }
    let board = Board::new();
    succeeds(&mut program("restricted", &board));
    until_nothing_is_left(&board);
}

#[test]
fn a_process_in_another_user_namespace_cannot_spawn() {
    let _dog = watched();
    let enters = || {
        // SAFETY: a plain call.
        if unsafe { libc::unshare(libc::CLONE_NEWUSER) } == -1 {
            return Some(format!("SKIPPED: {}", io::Error::last_os_error()));
        }
        Process::spawn(|| 1, ()).err().map(|e| e.to_string())
    };
    let told = Process::spawn(enters, ()).unwrap().join().unwrap().expect("it would not be in the namespace");
    assert!(told.contains("another user namespace") || told.contains("SKIPPED"), "{told}");
}

#[test]
fn a_main_that_changed_its_user_can_still_spawn_and_end() {
    let _dog = watched();
    if role().is_some() {
        let pool = Pool::new(2).unwrap();
        let squares: Vec<u32> = pool.map(|n: u32| n * n, [1, 2, 3]).unwrap();
        assert_eq!(squares, [1, 4, 9]);
        let sleeps = sleeper();
        change("user");
        let squares: Vec<u32> = pool.map(|n: u32| n * n, 0..50).unwrap();
        assert_eq!(squares.len(), 50);
        // Spawns several times as many processes as there are spares, so the spawns must call the supervisor.
        let all: Vec<_> = (0..20).map(|n| Process::spawn(|n: u32| n + 1, (n,)).unwrap()).collect();
        (0..20).zip(&all).for_each(|(n, p)| assert_eq!(p.join(), Ok(n + 1)));
        // The process belongs to root, so the supervisor sends the signal for main.
        sleeps.kill().unwrap();
        assert!(sleeps.join().unwrap_err().to_string().contains("signal 9"));
        println!("main ends");
        return;
    }
    if !is_root() {
        return;
    }
    let board = Board::new();
    fs::set_permissions(board.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let text = succeeds(&mut program("changes", &board));
    assert!(text.contains("main ends\n"), "{text}");
    until_nothing_is_left(&board);
}

/// Runs the main of a family. Its child starts a program, and then changes its user.
fn changes_its_user_and_sleeps(board: &str) {
    let changes = |board: String| {
        let started = std::process::Command::new("sleep").arg("1000").spawn().unwrap().id();
        change("user");
        post(&board, "child", format!("{} {started}", std::process::id()));
        forever()
    };
    let _child = Process::spawn(changes, (board.to_owned(),)).unwrap();
    wait_for(board, "child");
    let supervisor = supervisor();
    let stat = fs::read_to_string(format!("/proc/{supervisor}/status")).unwrap();
    let guard = stat.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().to_owned();
    post(board, "guard", guard);
    post(board, "supervisor", supervisor);
    forever();
}

#[test]
fn a_child_that_has_changed_its_user_does_not_outlive_the_family() {
    let _dog = watched();
    if role().is_some() {
        return changes_its_user_and_sleeps(&my_board());
    }
    if !is_root() {
        return;
    }
    for killed in [&["supervisor", "main"][..], &["main", "supervisor"], &["guard", "main"], &["main"]] {
        let board = Board::new();
        fs::set_permissions(board.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let mut main = Running::start(&mut program("sleeps", &board));
        let number = |who: &str| if who == "main" { main.pid() } else { board.number(who) };
        let supervisor = board.number("supervisor");
        let mut left: Vec<i32> = board.wait("child").split(' ').map(|pid| pid.parse().unwrap()).collect();
        left.extend([supervisor, board.number("guard")]);
        // Main is stopped, so it cannot help to end the other processes.
        send(main.pid(), libc::SIGSTOP);
        killed.iter().for_each(|who| send(number(who), libc::SIGKILL));
        main.end();
        until_dead(&left);
    }
}

/// A main that has changed its user can still end the processes that it spawned before, and the workers of
/// its pools.
#[test]
fn a_main_that_has_changed_its_user_can_signal_what_it_has_spawned_before() {
    isolated!({
        if !is_root() {
            return;
        }
        const SOON: Duration = Duration::from_millis(20);
        let park = || -> () { forever() };
        let (killed, terminated) = (sleeper(), sleeper());
        let pools = [Pool::new(1).unwrap(), Pool::new(1).unwrap()];
        let limited = pools[0].with_task_timeout(SOON).unwrap();
        let workers = pools.each_ref().map(|pool| pool.apply(std::process::id, ()).unwrap() as i32);
        change("user");
        killed.kill().unwrap();
        assert!(killed.join().unwrap_err().to_string().contains("signal 9"));
        terminated.terminate().unwrap();
        assert!(terminated.join().unwrap_err().to_string().contains("signal 15"));
        assert!(matches!(limited.submit(park, ()).unwrap().get(), Err(TaskError::TimedOut { .. })));
        let task = pools[1].submit(park, ()).unwrap();
        until("it runs", || pools[1].stats().running == 1);
        assert!(task.cancel());
        task.get().unwrap_err();
        until_dead(&workers);
        for pool in pools {
            pool.submit(park, ()).unwrap();
            until("it runs", || pool.stats().running == 1);
            pool.terminate().unwrap();
            let _ = pool.join();
        }
    });
}
