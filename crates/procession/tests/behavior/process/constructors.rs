//! Constructors run before `main`: in main, in its supervisor, and in children that execute the program
//! again. Whatever a constructor does, `main` runs once, and at most a handful of processes exist.
#![allow(unsafe_code, reason = "constructors, descriptors")]

use std::sync::atomic::{AtomicU32, Ordering};

use crate::family::*;
use procession::process::StartMethod;
use procession::{Lock, Process};

/// The start of an argument that names an action for the constructor, and the board where the constructor
/// posts. Unlike the environment, an argument cannot be cleared by a constructor.
const ARGUMENT: &str = "constructor=";

fn asked() -> Option<(String, String)> {
    let argument = std::env::args().find_map(|arg| arg.strip_prefix(ARGUMENT).map(str::to_owned))?;
    argument.split_once(',').map(|(what, board)| (what.to_owned(), board.to_owned()))
}

/// Runs before the library's own constructor. Both have the same priority, but the test is linked first.
#[used]
#[unsafe(link_section = ".init_array.00100")]
static EARLY: extern "C" fn() = early;

/// Runs after the library's constructor.
#[used]
#[unsafe(link_section = ".init_array")]
static LATE: extern "C" fn() = late;

/// A thread that a constructor started increments this counter.
static TICKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn early() {
    construct("early ");
}

extern "C" fn late() {
    construct("late ");
}

fn construct(when: &str) {
    let Some((what, board)) = asked() else { return };
    let Some(deed) = what.strip_prefix(when) else { return };
    post(&board, &format!("constructed {}", std::process::id()), "");
    let entries = std::fs::read_dir(&board).unwrap().flatten();
    let constructed = entries.filter(|e| e.file_name().to_string_lossy().starts_with("constructed")).count();
    if constructed > 6 {
        post(&board, "bomb", "");
        std::process::abort(); // or this goes on for ever
    }
    let result = |said: String| post(&board, &format!("said {}", std::process::id()), said);
    // SAFETY: system calls; one thread, before `main`.
    unsafe {
        match deed {
            "spawns" => result(match Process::spawn(|| 5, ()) {
                Ok(p) => format!("{:?}", p.join()),
                Err(error) => error.to_string(),
            }),
            "locks" => result(match Lock::new() {
                Ok(lock) => format!("{:?}", lock.lock().map(drop)),
                Err(error) => error.to_string(),
            }),
            "clears" => drop(libc::clearenv()),
            "closes" => drop(libc::close(0)),
            "fails" if in_helper() => {
                eprintln!("the constructor has no license");
                libc::_exit(3);
            }
            "fails" => {}
            "threads" => drop(std::thread::spawn(|| {
                loop {
                    TICKS.fetch_add(1, Ordering::Relaxed);
                    // Nothing waits for this pause. It keeps a thread that counts for ever from using up a processor.
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            })),
            _ => unreachable!("every action is named by a test"),
        }
    }
}

/// Reports whether the library executed this program. The library uses a path that a shell does not use.
fn in_helper() -> bool {
    // SAFETY: the kernel puts a C string there.
    let path = unsafe { std::ffi::CStr::from_ptr(libc::getauxval(libc::AT_EXECFN) as *const libc::c_char) };
    path.to_bytes().windows(3).any(|part| part == b"/./")
}

/// Runs the main of a program with a constructor.
fn live() {
    let (_, board) = asked().unwrap();
    post(&board, &format!("main {}", std::process::id()), "");
    let spawn = |method| match Process::builder().start_method(method).spawn(|n: u32| n + 1, (6,)) {
        Ok(p) => format!("{:?}", p.join()),
        Err(error) => format!("Err({error})"),
    };
    post(&board, "spawned", spawn(StartMethod::ForkServer));
    post(&board, "fresh", spawn(StartMethod::Spawn));
}

/// The outcome of a program with a constructor.
struct Came {
    spawned: String,
    fresh: String,
    said: Vec<String>,
    text: String,
}

fn with_constructor(what: &str) -> Came {
    let board = Board::new();
    let mut command = program("main", &board);
    // libtest treats this argument as the name of another test.
    command.arg(format!("{ARGUMENT}{what},{}", board.path()));
    let output = command.output().unwrap();
    let text = text_of(&output);
    let names = board.names();
    assert!(!names.iter().any(|name| name == "bomb"), "{what}: {names:?} {text}");
    assert_eq!(names.iter().filter(|name| name.starts_with("main")).count(), 1, "{what}: {names:?} {text}");
    assert!(output.status.success(), "{what}: {text}");
    // Constructors run in main, its supervisor, and a fresh child.
    assert!(
        names.iter().filter(|name| name.starts_with("constructed")).count() <= 3,
        "{what}: {names:?} {text}"
    );
    until_nothing_is_left(&board);
    let said = names.iter().filter(|name| name.starts_with("said")).map(|name| board.wait(name)).collect();
    Came { spawned: board.wait("spawned"), fresh: board.wait("fresh"), said, text }
}

fn in_main() -> bool {
    let in_role = asked().is_some();
    if in_role {
        live();
    }
    in_role
}

/// Part of the error that a constructor gets in a helper.
const REFUSED: &str = "still runs constructors";

#[test]
fn a_constructor_may_spawn_in_main_only() {
    let _dog = watched();
    if in_main() {
        return;
    }
    for what in ["late spawns", "early spawns"] {
        let came = with_constructor(what);
        assert_eq!((came.spawned.as_str(), came.fresh.as_str()), ("Ok(7)", "Ok(7)"), "{what}: {}", came.text);
        let (ok, refused): (Vec<&String>, _) = came.said.iter().partition(|said| *said == "Ok(5)");
        assert!(
            ok.len() == 1 && refused.iter().all(|said| said.contains(REFUSED)),
            "{what}: {:?}",
            came.said
        );
        assert_eq!(refused.len(), 2, "{what}: {:?}", came.said);
    }
}

#[test]
fn a_constructor_may_create_a_lock() {
    let _dog = watched();
    if in_main() {
        return;
    }
    let came = with_constructor("late locks");
    assert_eq!((came.spawned.as_str(), came.fresh.as_str()), ("Ok(7)", "Ok(7)"), "{}", came.text);
    assert_eq!(came.said.iter().filter(|said| said.contains(REFUSED)).count(), 2, "{:?}", came.said);
}

#[test]
fn a_constructor_may_clear_the_environment() {
    let _dog = watched();
    if in_main() {
        return;
    }
    for what in ["late clears", "early clears"] {
        let came = with_constructor(what);
        assert_eq!((came.spawned.as_str(), came.fresh.as_str()), ("Ok(7)", "Ok(7)"), "{what}: {}", came.text);
    }
}

#[test]
fn a_constructor_that_closes_a_helper_s_descriptor_is_reported() {
    let _dog = watched();
    if in_main() {
        return;
    }
    let came = with_constructor("early closes");
    assert!(came.spawned.starts_with("Err("), "{}", came.spawned);
    assert!(came.spawned.contains("Perhaps a constructor"), "{}", came.spawned);
}

#[test]
fn a_constructor_that_fails_in_helpers_is_reported() {
    let _dog = watched();
    if in_main() {
        return;
    }
    for what in ["early fails", "late fails"] {
        let came = with_constructor(what);
        assert!(came.spawned.starts_with("Err("), "{what}: {}", came.spawned);
        assert!(came.spawned.contains("the constructor has no license"), "{what}: {}", came.spawned);
    }
}

#[test]
fn a_constructor_may_start_a_thread() {
    let _dog = watched();
    if in_main() {
        return;
    }
    let came = with_constructor("late threads");
    assert_eq!((came.spawned.as_str(), came.fresh.as_str()), ("Ok(7)", "Ok(7)"), "{}", came.text);
}
