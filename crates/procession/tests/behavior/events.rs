//! Processes emit events of `tracing` and records of `log`. These reach main's subscriber and logger, even if
//! the process is killed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use crate::family::*;
use procession::Process;
use procession::process::StartMethod;
use procession_testkit::isolated;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

/// Records each event as `LEVEL target: name=value ..`, followed by the spans that contain the event.
#[derive(Clone)]
struct Notes {
    lines: Arc<Mutex<Vec<String>>>,
    level: Level,
    spans: Arc<Mutex<Spans>>,
}

/// The open spans by number, and the numbers of the spans that have been entered.
#[derive(Default)]
struct Spans {
    made: u64,
    open: BTreeMap<u64, String>,
    entered: Vec<u64>,
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        write!(self.0, " {}={value}u", field.name()).unwrap();
    }
}

impl Notes {
    fn new(level: Level) -> Notes {
        Notes { lines: Arc::default(), level, spans: Arc::default() }
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
        let data = event.metadata();
        let mut line = Line(format!("{} {}:", data.level(), data.target()));
        event.record(&mut line);
        let spans = self.spans.lock().unwrap();
        spans.entered.iter().for_each(|id| line.0 += &format!(" @{}", spans.open[id]));
        if data.file().is_some_and(|file| file == file!()) && data.line().is_some() {
            self.lines.lock().unwrap().push(line.0);
        }
    }

    fn new_span(&self, new: &Attributes<'_>) -> Id {
        let mut line = Line(new.metadata().name().to_owned());
        new.record(&mut line);
        let mut spans = self.spans.lock().unwrap();
        assert_eq!(new.parent().map(Id::into_u64), spans.entered.last().copied(), "spans are nested");
        spans.made += 1;
        let id = spans.made;
        spans.open.insert(id, line.0);
        Id::from_u64(id)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, id: &Id) {
        self.spans.lock().unwrap().entered.push(id.into_u64());
    }

    fn exit(&self, id: &Id) {
        assert_eq!(self.spans.lock().unwrap().entered.pop(), Some(id.into_u64()));
    }

    fn try_close(&self, id: Id) -> bool {
        self.spans.lock().unwrap().open.remove(&id.into_u64()).is_some()
    }
}

#[test]
fn events_of_processes_reach_main() {
    isolated!({
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
            until("all events have arrived", || notes.have("from below"));
            let all = notes.all();
            assert_eq!(all.len(), 3, "{all:#?}");
            assert_eq!(
                all[0],
                format!(
                    "INFO behavior::events: message=hello size=3 who=\"me\" pid={pid} process=\"talker\""
                )
            );
            assert_eq!(all[1], format!("WARN elsewhere: message=care pid={pid} process=\"talker\""));
            assert!(
                all[2].starts_with("ERROR behavior::events: message=from below pid=")
                    && all[2].ends_with("process=\"below\" @inside"),
                "{all:#?}"
            );
        });
    });
}

#[test]
fn events_arrive_in_their_spans() {
    fn speaks(board: String) {
        let job = tracing::info_span!("job", id = 7u64, name = "wash", done = tracing::field::Empty);
        let _in_job = job.enter();
        tracing::info!(pid = 1, "in the job");
        {
            let _step = tracing::warn_span!("step", n = -2).entered();
            let _quiet = tracing::debug_span!("of no interest").entered();
            job.record("done", true);
            tracing::info!("in a step");
            tracing::info!(parent: None, "on its own");
            let theirs = job.clone();
            let thread = move || {
                tracing::info!("in a thread");
                theirs.in_scope(|| tracing::info!("in a thread, for the job"));
            };
            std::thread::spawn(thread).join().unwrap();
        }
        assert_eq!(tracing::Span::current().metadata().map(|data| data.name()), Some("job"));
        let orphan = tracing::info_span!(parent: &tracing::info_span!("closed"), "orphan");
        tracing::info!(parent: &orphan, "elsewhere");
        drop(_in_job);
        drop(job);
        assert!(tracing::Span::current().is_disabled() || tracing::Span::current().id().is_none());
        tracing::info!("outside");
        let _last = tracing::info_span!("last").entered();
        tracing::info!("last words");
        post(&board, "said", "");
        forever()
    }
    isolated!({
        let notes = Notes::new(Level::INFO);
        tracing::dispatcher::with_default(&Dispatch::new(notes.clone()), || {
            let board = Board::new();
            let p = Process::builder().name("p").daemon(true).spawn(speaks, (board.path(),)).unwrap();
            board.wait("said");
            kill(&p);
            until("all events have arrived", || notes.have("last words"));
            let who = format!("pid={} process=\"p\"", p.pid().unwrap());
            let job = "@job id=7u name=\"wash\"";
            let expected = [
                format!("message=in the job pid=1 pid_of_child={} process=\"p\" {job}", p.pid().unwrap()),
                format!("message=in a step {who} {job} done=true @step n=-2"),
                format!("message=on its own {who}"),
                format!("message=in a thread {who}"),
                format!("message=in a thread, for the job {who} {job} done=true"),
                format!("message=elsewhere {who} {job} done=true @closed @orphan"),
                format!("message=outside {who}"),
                format!("message=last words {who} @last"),
            ];
            assert_eq!(notes.all(), expected.map(|line| format!("INFO behavior::events: {line}")));
            let spans = notes.spans.lock().unwrap();
            assert!(spans.open.is_empty() && spans.entered.is_empty(), "every span is closed");
        });
    });
}

/// Keeps each record of `log`.
struct Log(Mutex<Vec<String>>);

static LOG: Log = Log(Mutex::new(Vec::new()));

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() != "noise"
    }

    fn log(&self, record: &log::Record<'_>) {
        let place = record.file().zip(record.line()).is_some_and(|(file, _)| file == file!());
        assert!(place && record.module_path() == Some(module_path!()));
        let line = format!("{} {}: {}", record.level(), record.target(), record.args());
        self.0.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

/// A payload of a panic that panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a payload that panics when it is dropped");
    }
}

/// Counts the records that it receives, and panics at `boom` and `bomb`.
struct Fragile(AtomicU32);

static FRAGILE: Fragile = Fragile(AtomicU32::new(0));

impl log::Log for Fragile {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        assert!(!text.contains("boom"), "the logger panics");
        if text.contains("bomb") {
            std::panic::panic_any(Bomb);
        }
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn flush(&self) {}
}

#[test]
fn a_logger_that_panics_loses_only_that_record() {
    isolated!({
        log::set_logger(&FRAGILE).unwrap();
        log::set_max_level(log::LevelFilter::Info);
        let talks = || {
            for n in 0..100 {
                log::info!("{}", ["boom", "bomb", "fine"][(n % 10).min(2)]);
            }
        };
        for round in 1..4 {
            Process::spawn(talks, ()).unwrap().join().unwrap();
            until("the other records have arrived", || FRAGILE.0.load(Ordering::SeqCst) == round * 80);
        }
    });
}

#[test]
fn a_subscriber_that_panics_loses_only_that_event() {
    /// Panics at some events.
    struct Touchy(Notes);

    impl Subscriber for Touchy {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            self.0.enabled(metadata)
        }
        fn event(&self, event: &Event<'_>) {
            self.0.event(event);
            let last = self.0.all().pop().unwrap_or_default();
            assert!(!last.contains("boom"), "the subscriber panics");
        }
        fn new_span(&self, new: &Attributes<'_>) -> Id {
            self.0.new_span(new)
        }
        fn record(&self, id: &Id, values: &Record<'_>) {
            self.0.record(id, values);
        }
        fn record_follows_from(&self, id: &Id, other: &Id) {
            self.0.record_follows_from(id, other);
        }
        fn enter(&self, id: &Id) {
            self.0.enter(id);
        }
        fn exit(&self, id: &Id) {
            self.0.exit(id);
        }
        fn try_close(&self, id: Id) -> bool {
            self.0.try_close(id)
        }
    }

    isolated!({
        let notes = Notes::new(Level::INFO);
        let subscriber = Touchy(notes.clone());
        tracing::subscriber::with_default(subscriber, || {
            let talks = || {
                tracing::info_span!("around").in_scope(|| tracing::info!("boom"));
                tracing::info!("afterwards");
            };
            Process::spawn(talks, ()).unwrap().join().unwrap();
            until("the other event has arrived", || notes.have("afterwards"));
        });
        let after = notes.all().into_iter().find(|line| line.contains("afterwards")).unwrap();
        assert!(!after.contains("around"), "{after}");
    });
}

#[test]
fn records_of_log_reach_main_even_from_killed_processes() {
    isolated!({
        log::set_logger(&LOG).unwrap();
        log::set_max_level(log::LevelFilter::Info);
        let talks = |board: String| -> () {
            log::warn!("hello {}", 1);
            log::debug!("of no interest");
            log::info!(target: "noise", "of no interest");
            assert_eq!(log::max_level(), log::LevelFilter::Info, "children inherit the level");
            for n in 0u32.. {
                log::info!("saying {n}.");
                // Posts only after the logging call has returned.
                post(&board, "said", n);
            }
        };
        for method in [StartMethod::ForkServer, StartMethod::Spawn] {
            LOG.0.lock().unwrap().clear();
            let board = Board::new();
            let builder = Process::builder().name("talker").daemon(true).start_method(method);
            let p = builder.spawn(talks, (board.path(),)).unwrap();
            board.wait("said");
            kill(&p);
            let said: usize = board.wait("said").parse().unwrap();
            until("every record of the dead has arrived", || LOG.0.lock().unwrap().len() > said + 1);
            let who = format!("talker (pid {})", p.pid().unwrap());
            let all = LOG.0.lock().unwrap();
            assert_eq!(all[0], format!("WARN behavior::events: {who}: hello 1"));
            for (n, line) in all[1..].iter().enumerate() {
                assert_eq!(*line, format!("INFO behavior::events: {who}: saying {n}."));
            }
        }
    });
}

#[test]
fn events_are_not_lost_when_their_process_is_killed() {
    isolated!({
        let notes = Notes::new(Level::TRACE);
        tracing::dispatcher::with_default(&Dispatch::new(notes.clone()), || {
            let mut said_in_all = 0;
            for round in 0..30u32 {
                let talks = |board: String, round: u32| -> () {
                    for n in 0u32.. {
                        tracing::trace!("saying {round}/{n}.");
                        // Posts only after the logging call has returned.
                        post(&board, "said", n);
                    }
                };
                let board = Board::new();
                let p = Process::builder().daemon(true).spawn(talks, (board.path(), round)).unwrap();
                board.wait("said");
                (0..round * 10_000).for_each(|_| std::hint::spin_loop());
                kill(&p);
                let said: u32 = board.wait("said").parse().unwrap();
                until("every event of the dead has arrived", || {
                    notes.have(&format!("saying {round}/{said}."))
                });
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
fn main_forwards_all_events_before_it_ends() {
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
fn a_process_may_set_its_own_subscriber_if_main_has_none() {
    isolated!({
        let own = || {
            let notes = Notes::new(Level::INFO);
            tracing::dispatcher::set_global_default(Dispatch::new(notes.clone())).unwrap();
            tracing::info!("mine");
            notes.all().len()
        };
        assert_eq!(Process::spawn(own, ()).unwrap().join(), Ok(1));
    });
}
