//! Events of `tracing` that processes emit appear in main's subscriber, also those of processes that are killed.

mod family;

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use family::*;
use procession::Process;
use procession_testkit::isolated;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

/// Writes down each event, as `LEVEL target: name=value ..`.
#[derive(Clone)]
struct Notes {
    lines: Arc<Mutex<Vec<String>>>,
    level: Level,
}

impl Notes {
    fn new(level: Level) -> Notes {
        Notes { lines: Arc::default(), level }
    }

    fn have(&self, word: &str) -> bool {
        self.lines.lock().unwrap().iter().any(|line| line.contains(word))
    }

    fn all(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

impl Subscriber for Notes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(self.level.into())
    }

    fn event(&self, event: &Event<'_>) {
        struct Line(String);
        impl Visit for Line {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                write!(self.0, " {}={value:?}", field.name()).unwrap();
            }
        }
        let data = event.metadata();
        let mut line = Line(format!("{} {}:", data.level(), data.target()));
        event.record(&mut line);
        if data.file().is_some_and(|file| file.ends_with("tests/events.rs")) && data.line().is_some() {
            self.lines.lock().unwrap().push(line.0);
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn what_processes_say_appears_in_main() {
    isolated!({
        let _dog = watched();
        let notes = Notes::new(Level::INFO);
        tracing::dispatcher::with_default(&Dispatch::new(notes.clone()), || {
            let says = || {
                tracing::info!(size = 3, who = "me", "hello");
                tracing::warn!(target: "elsewhere", "care");
                tracing::debug!("of no interest");
                let inner = || {
                    let _span = tracing::info_span!("inside").entered();
                    tracing::error!("from below");
                };
                Process::builder().name("below").spawn(inner, ()).unwrap().join().unwrap();
                std::process::id()
            };
            let p = Process::builder().name("talker").spawn(says, ()).unwrap();
            let pid = p.join().unwrap();
            until("all has come", || notes.have("from below"));
            let all = notes.all();
            assert_eq!(all.len(), 3, "{all:#?}");
            assert_eq!(
                all[0],
                format!(
                    "INFO events: message=hello pid={pid} process=\"talker\" fields=\"size=3 who=\\\"me\\\"\""
                )
            );
            assert_eq!(all[1], format!("WARN elsewhere: message=care pid={pid} process=\"talker\""));
            assert!(
                all[2].starts_with("ERROR events: message=from below pid=")
                    && all[2].ends_with("process=\"below\""),
                "{all:#?}"
            );
        });
    });
}

#[test]
fn nothing_that_was_said_is_lost_when_the_speaker_is_killed() {
    isolated!({
        let _dog = watched();
        let notes = Notes::new(Level::TRACE);
        tracing::dispatcher::with_default(&Dispatch::new(notes.clone()), || {
            let mut said_in_all = 0;
            for round in 0..30u32 {
                let talks = |board: String, round: u32| -> () {
                    for n in 0u32.. {
                        tracing::trace!("saying {round}/{n}.");
                        // After the call has returned.
                        post(&board, "said", n);
                    }
                };
                let board = Board::new();
                let p = Process::builder().daemon(true).spawn(talks, (board.path(), round)).unwrap();
                board.wait("said");
                (0..round * 10_000).for_each(|_| std::hint::spin_loop());
                kill(&p);
                let said: u32 = board.wait("said").parse().unwrap();
                until("what it had said has come", || notes.have(&format!("saying {round}/{said}.")));
                let all = notes.all();
                let of_it: Vec<_> =
                    all.iter().filter(|line| line.contains(&format!("saying {round}/"))).collect();
                for (n, line) in of_it.iter().enumerate() {
                    assert!(line.contains(&format!("saying {round}/{n}.")), "in order and whole: {line}");
                }
                said_in_all += said;
            }
            assert!(said_in_all > 100, "{said_in_all}");
        });
    });
}

#[test]
fn main_s_end_waits_for_what_was_said() {
    struct Prints;
    impl Subscriber for Prints {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn event(&self, event: &Event<'_>) {
            println!("[{}]", event.metadata().target());
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }
    let _dog = watched();
    if role().is_some() {
        tracing::dispatcher::set_global_default(Dispatch::new(Prints)).unwrap();
        let talks = || (0..1000).for_each(|_| tracing::info!(target: "last words", "said"));
        for _ in 0..3 {
            Process::spawn(talks, ()).unwrap();
        }
        return;
    }
    let board = Board::new();
    let text = succeeds(&mut program("main", &board));
    assert_eq!(text.matches("[last words]").count(), 3000, "{text}");
}

#[test]
fn without_a_subscriber_in_main_a_process_can_have_its_own() {
    isolated!({
        let _dog = watched();
        let own = || {
            let notes = Notes::new(Level::INFO);
            tracing::dispatcher::set_global_default(Dispatch::new(notes.clone())).unwrap();
            tracing::info!("mine");
            notes.all().len()
        };
        assert_eq!(Process::spawn(own, ()).unwrap().join(), Ok(1));
    });
}
