//! Families that are suspended as a whole, by the freezer of a control group.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::inner_dog;
use crate::family::*;
use crate::life::{self, live};
use crate::places::*;
use procession::Pool;
use procession_testkit::proc;

/// A way to suspend and resume a whole program.
enum Freezer {
    Version1(Group),
    Version2(Group),
    Signals,
}

impl Freezer {
    fn any() -> Freezer {
        let first = Group::of_version_1("freezer").map(Freezer::Version1);
        let second = || Group::of_version_2().filter(|group| group.set("cgroup.freeze", "0"));
        first.or_else(|| second().map(Freezer::Version2)).unwrap_or_else(|| {
            eprintln!("NOTE: no freezer here, so the group is stopped by SIGSTOP instead");
            Freezer::Signals
        })
    }

    fn enter(&self, command: Command) -> Command {
        match self {
            Freezer::Version1(group) | Freezer::Version2(group) => group.enter(&command),
            Freezer::Signals => command,
        }
    }

    fn freeze(&self, main: i32) {
        match self {
            Freezer::Version1(group) => {
                assert!(group.set("freezer.state", "FROZEN"));
                until("it is frozen", || group.get("freezer.state").trim() == "FROZEN");
            }
            Freezer::Version2(group) => {
                assert!(group.set("cgroup.freeze", "1"));
                until("it is frozen", || group.get("cgroup.events").contains("frozen 1"));
            }
            Freezer::Signals => {
                send(-main, libc::SIGSTOP);
                until("it is stopped", || proc::state(main) == Some('T'));
            }
        }
    }

    fn thaw(&self, main: i32) {
        match self {
            Freezer::Version1(group) => assert!(group.set("freezer.state", "THAWED")),
            Freezer::Version2(group) => assert!(group.set("cgroup.freeze", "0")),
            Freezer::Signals => send(-main, libc::SIGCONT),
        }
    }
}

#[test]
fn a_family_continues_after_a_freeze_of_five_seconds() {
    if role().is_some() {
        let _dog = inner_dog();
        // A time limit counts only time in which the task can run, so it has not expired when the family
        // thaws.
        let pool = Pool::builder().workers(1).task_timeout(Duration::from_secs(3)).build().unwrap();
        let runs = |board: String| {
            post(&board, "begun", "");
            wait_for(&board, "thawed");
        };
        assert_eq!(pool.apply(runs, (my_board(),)), Ok(()));
        drop(pool);
        return live();
    }
    let (_dog, board, freezer) = (watched(), Board::new(), Freezer::any());
    let mut command = freezer.enter(program("frozen", &board));
    let mut main = Running::start(command.stdout(Stdio::piped()));
    board.wait("begun");
    freezer.freeze(main.pid());
    // The freeze must outlast the time limit of the task.
    std::thread::sleep(Duration::from_secs(5));
    freezer.thaw(main.pid());
    post(&board.path(), "thawed", "");
    let status = main.end();
    let output = std::io::read_to_string(main.0.stdout.take().expect("a pipe")).expect("text");
    assert!(status.success() && output.contains(life::LAST_WORD), "{status}: {output}");
    until_nothing_is_left(&board);
}
