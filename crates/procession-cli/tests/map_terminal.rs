//! `procession map` at a terminal. The kernel provides a real terminal.

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use support::{Place, number, state, wait_until};

/// A terminal with a shell command in a session of its own.
struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    child: Child,
}

impl Terminal {
    /// Runs a script in a `bash` that has this terminal. In the script, `map` is the program under test.
    fn run(script: &str) -> Terminal {
        support::map(&[]); // starts the watchdog
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = File::options().read(true).write(true).open(name).unwrap();
        rustix::termios::tcsetwinsize(
            &slave,
            rustix::termios::Winsize { ws_col: 80, ws_row: 24, ws_xpixel: 0, ws_ypixel: 0 },
        )
        .unwrap();
        let stream = || Stdio::from(slave.as_fd().try_clone_to_owned().unwrap());
        let script = script.replace("map ", &format!("{} map ", env!("CARGO_BIN_EXE_procession")));
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", "bash", "--norc", "-c", &script]).env("TERM", "xterm");
        let child = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap();
        let keyboard = File::from(master);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, shown) = (keyboard.try_clone().unwrap(), Arc::clone(&screen));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                shown.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Terminal { keyboard, screen, child }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn shows(&self, text: &str) {
        wait_until(|| self.text().contains(text));
    }

    fn end(mut self) -> (String, Option<i32>) {
        let code = self.child.wait().unwrap().code();
        // The shell's output is in the terminal already, and the reader receives it soon.
        wait_until(|| Arc::strong_count(&self.screen) == 1);
        (self.text(), code)
    }
}

#[test]
fn a_command_without_the_terminal_is_refused_it_at_once() {
    let (text, code) = Terminal::run("map sh -c 'read a < /dev/tty; echo got $a' ::: x").end();
    assert!(text.contains("cannot open /dev/tty") && text.contains("got"), "{text}");
    assert_eq!(code, Some(0));
}

#[test]
fn a_command_with_the_terminal_reads_from_it() {
    let mut terminal = Terminal::run(
        "map --tty sh -c 'echo ask $1; read a < /dev/tty; read b; echo got $a $b $1' sh ::: 1 2; read c; echo last $c",
    );
    for number in 1..=2 {
        terminal.shows(&format!("ask {number}"));
        terminal.types("secret\nmore\n");
        terminal.shows(&format!("got secret more {number}"));
    }
    terminal.types("own\n");
    let (text, code) = terminal.end();
    assert!(text.contains("last own"), "the terminal is given back: {text}");
    assert_eq!(code, Some(0));
}

#[test]
fn a_missing_terminal_is_reported() {
    let said = Command::new("setsid")
        .args(["--wait", env!("CARGO_BIN_EXE_procession"), "map", "--tty", "true", ":::", "x"])
        .output();
    let said: support::Said = said.unwrap().into();
    assert!(said.code == Some(125) && said.err.contains("there is no terminal: /dev/tty"), "{}", said.err);
}

/// The kernel cannot be asked to give a terminal to a group that has no number in this PID namespace.
#[test]
fn a_terminal_that_could_not_be_given_back_is_not_taken() {
    let namespace = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    if !support::can_unshare(&namespace) {
        return;
    }
    let run = |flag: &str| {
        let unshare = namespace.join(" ");
        Terminal::run(&format!("unshare {unshare} sh -c 'map {flag} -j1 echo got ::: 1; exit $?'")).end()
    };
    let (text, code) = run("--tty");
    assert!(code == Some(125) && text.contains("start the run in a group of its own"), "{text}");
    let (text, code) = run("");
    assert!(code == Some(0) && text.contains("got 1"), "{text}");
}

#[test]
fn ctrl_c_reaches_commands_and_ends_the_run() {
    for flag in ["", "--tty "] {
        let place = Place::new();
        let script = format!(
            "map {flag}sh -c 'trap \"echo caught; trap - INT; kill -INT \\$\\$\" INT; echo $$ > @/begun; while :; do sleep 0.02; done' ::: a b"
        );
        let mut terminal = Terminal::run(&place.script(&(script + "; echo code $?")));
        place.await_lines("begun", 1);
        terminal.types("\x03");
        let (text, _) = terminal.end();
        assert!(text.contains("caught") && text.contains("interrupted"), "{text}");
    }
}

/// The command waits without starting a program. A shell cannot stop itself while it waits for a child that
/// was stopped before it executed its program.
#[test]
fn ctrl_z_stops_commands_and_fg_continues_them() {
    for flag in ["", "--tty "] {
        let place = Place::new();
        let script = format!(
            "set -m; map {flag}sh -c 'echo $$ > @/begun; while ! test -e @/go; do :; done; echo ended' ::: x; echo stopped; touch @/stopped; read a; fg; echo code $?"
        );
        let mut terminal = Terminal::run(&place.script(&script));
        let pid = number(&place.await_lines("begun", 1)[0]);
        terminal.types("\x1a");
        terminal.shows("stopped");
        wait_until(|| place.path("stopped").exists());
        wait_until(|| state(pid) == Some('T'));
        std::fs::write(place.path("go"), "").unwrap();
        terminal.types("\n");
        let (text, _) = terminal.end();
        assert!(text.contains("ended") && text.contains("code 0"), "{text}");
    }
}

#[test]
fn inputs_can_be_typed() {
    let mut terminal = Terminal::run("map -j1 echo got");
    terminal.types("one\n");
    terminal.shows("got one");
    terminal.types("two\n\x04");
    let (text, code) = terminal.end();
    assert!(text.contains("got two") && code == Some(0), "{text}");
}

#[test]
fn a_question_is_asked_before_each_command() {
    let mut terminal = Terminal::run("printf '1\\n2\\n3\\n' | map -p -j1 echo got");
    for (number, answer) in [(1, "y\n"), (2, "\n"), (3, "yes\n")] {
        terminal.shows(&format!("echo got {number} ?..."));
        terminal.types(answer);
    }
    let (text, code) = terminal.end();
    assert!(
        text.contains("got 1\r\n") && !text.contains("got 2\r\n") && text.contains("got 3\r\n"),
        "{text}"
    );
    assert!(text.contains("2 commands succeeded, 0 failed, 1 declined") && code == Some(0), "{text}");
}

#[test]
fn a_text_without_end_and_the_progress_do_not_share_a_line() {
    let place = Place::new();
    let script = place.script("map -j1 sh -c 'if test $1 = 1; then printf abc; else while ! test -e @/go; do sleep 0.05; done; fi' sh ::: 1 2");
    let terminal = Terminal::run(&script);
    terminal.shows("abc");
    terminal.shows("[##########..........] 1 of 2");
    std::fs::write(place.path("go"), "").unwrap();
    let (text, code) = terminal.end();
    let after = text.split("abc").nth(1).unwrap();
    assert!(after.starts_with("\r\n["), "{text:?}");
    assert!(text.contains("\r\x1b[2Kprocession: 2 commands succeeded") && code == Some(0), "{text:?}");
}

#[test]
fn a_text_without_end_and_a_message_do_not_share_a_line() {
    for flags in ["-j1", "-q -j1"] {
        let (text, code) = Terminal::run(&format!("map {flags} sh -c 'printf hello; exit 3' ::: 1")).end();
        assert!(
            text.contains("hello\r\nprocession: job 1 (1): exit code 3\r\n") && code == Some(123),
            "{text:?}"
        );
    }
}

#[test]
fn ctrl_c_ends_the_loop_of_a_shell() {
    let place = Place::new();
    let script = "for i in 1 2; do map -q sh -c 'echo >> @/begun; exec sleep 1000' ::: 1; done; echo looped";
    let mut terminal = Terminal::run(&place.script(script));
    place.await_lines("begun", 1);
    terminal.types("\x03");
    let (text, code) = terminal.end();
    assert!(
        !text.contains("looped") && place.lines("begun").len() == 1 && code.is_none(),
        "{code:?}: {text:?}"
    );
}

#[test]
fn progress_shows_what_the_run_waits_for() {
    let place = Place::new();
    let terminal =
        Terminal::run(&place.script("(echo 1; while ! test -e @/go; do sleep 0.05; done) | map true"));
    terminal.shows("1 of at least 1 done, 0 running, 0:00, waiting for input");
    assert!(!terminal.text().contains("to go"));
    std::fs::write(place.path("go"), "").unwrap();
    assert_eq!(terminal.end().1, Some(0));
}

/// Typed text cannot serve both as input and as answers, or both as input of `map` and as input of a command.
#[test]
fn the_terminal_is_read_by_one_process_at_a_time() {
    for flag in ["--tty", "-p"] {
        let (text, code) = Terminal::run(&format!("map {flag} echo")).end();
        assert!(code == Some(125) && text.contains("give the input with :::"), "{text}");
    }
}
