//! [`Format`]: the lines of a log.
//!
//! ```text
//! Table   job <tab> start <tab> seconds <tab> attempt <tab> exit <tab> signal <tab> input <tab> command
//! Json    {"job":1,"start":..,"seconds":..,"attempt":1,"exit":0,"signal":null,"input":"..","command":[".."]}
//! Joblog  Seq <tab> Host <tab> Starttime <tab> JobRuntime <tab> Send <tab> Receive <tab> Exitval <tab> Signal <tab> Command
//! ```

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::map::quoting::{command_line, unquoted};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Table,
    Json,
    Joblog,
}

/// One finished job.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    pub job: u64,
    pub start: SystemTime,
    pub seconds: f64,
    pub attempt: u32,
    pub exit: Option<i32>,
    pub signal: Option<i32>,
    pub timed_out: bool,
    pub input: &'a [u8],
    pub words: &'a [Vec<u8>],
    /// The number of bytes that the command was given. The next field counts the bytes that it printed.
    pub sent: u64,
    pub received: u64,
}

/// One parsed line of a log.
#[derive(Debug, PartialEq)]
pub struct ParsedLine {
    pub job: u64,
    pub succeeded: bool,
    pub input: Option<Vec<u8>>,
    pub command: Vec<u8>,
}

const TABLE: &[u8] = b"job\tstart\tseconds\tattempt\texit\tsignal\tinput\tcommand\n";
const JOBLOG: &[u8] = b"Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n";

impl Format {
    pub const ALL: [Format; 3] = [Format::Table, Format::Json, Format::Joblog];

    /// Returns the first line.
    pub fn head(self) -> &'static [u8] {
        match self {
            Format::Table => TABLE,
            Format::Json => b"",
            Format::Joblog => JOBLOG,
        }
    }

    /// Returns whether a log starts like this.
    pub fn is_start_of(self, text: &[u8]) -> bool {
        match self {
            Format::Json => text.starts_with(b"{\"job\":"),
            _ => text.starts_with(self.head()),
        }
    }

    /// Returns an input as this format writes it.
    pub fn input(self, input: &[u8]) -> Vec<u8> {
        match self {
            Format::Json => String::from_utf8_lossy(input).into_owned().into_bytes(),
            _ => escaped(input),
        }
    }

    /// Returns a command as this format writes it.
    pub fn command(self, words: &[Vec<u8>]) -> Vec<u8> {
        match self {
            Format::Table => escaped(&command_line(words)),
            Format::Json => json_words(words).to_string().into_bytes(),
            // A newline becomes a null byte, as in GNU parallel's own log.
            Format::Joblog => {
                command_line(words).iter().map(|&byte| if byte == b'\n' { 0 } else { byte }).collect()
            }
        }
    }

    /// Returns whether a command in a log is this one. GNU parallel quotes words differently. It writes the script of a
    /// shell where this program runs `sh -c script`.
    pub fn is_command(self, logged: &[u8], words: &[Vec<u8>]) -> bool {
        if logged == self.command(words) {
            return true;
        }
        let same = |logged: Option<Vec<Vec<u8>>>, words: Option<&[Vec<u8>]>| logged.as_deref() == words;
        let logged =
            || unquoted(&logged.iter().map(|&byte| if byte == 0 { b'\n' } else { byte }).collect::<Vec<_>>());
        let script = || match words {
            [_, flag, script] if flag == b"-c" => unquoted(script),
            _ => None,
        };
        self == Format::Joblog
            && logged().is_some()
            && (same(logged(), Some(words)) || same(logged(), script().as_deref()))
    }

    /// Returns a line, including its end.
    pub fn line(self, entry: &Entry<'_>) -> Vec<u8> {
        let start = entry.start.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let Entry { job, seconds, attempt, exit, signal, timed_out, sent, received, .. } = *entry;
        let or_none = |n: Option<i32>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let mut line = match self {
            Format::Table => {
                let (exit, signal) = (or_none(exit), or_none(signal));
                let head = format!("{job}\t{start:.3}\t{seconds:.3}\t{attempt}\t{exit}\t{signal}\t");
                [head.into_bytes(), self.input(entry.input), b"\t".to_vec(), self.command(entry.words)]
                    .concat()
            }
            Format::Json => {
                let round = |seconds: f64| (seconds * 1000.0).round() / 1000.0;
                let input = String::from_utf8_lossy(entry.input);
                let object = json!({
                    "job": job, "start": round(start), "seconds": round(seconds), "attempt": attempt,
                    "exit": exit, "signal": signal, "input": input, "command": json_words(entry.words),
                });
                object.to_string().into_bytes()
            }
            Format::Joblog => {
                // GNU parallel writes 0 and the signal, or -1 and the signal after a timeout.
                let (exit, signal) = (exit.unwrap_or(if timed_out { -1 } else { 0 }), signal.unwrap_or(0));
                let head =
                    format!("{job}\t:\t{start:.3}\t{seconds:10.3}\t{sent}\t{received}\t{exit}\t{signal}\t");
                [head.into_bytes(), self.command(entry.words)].concat()
            }
        };
        line.push(b'\n');
        line
    }

    /// Parses a line. Returns `None` for the head and for any other text.
    pub fn parse(self, line: &[u8]) -> Option<ParsedLine> {
        if self == Format::Json {
            return parse_json(line);
        }
        let columns: Vec<&[u8]> =
            line.splitn(if self == Format::Table { 8 } else { 9 }, |&byte| byte == b'\t').collect();
        let job = std::str::from_utf8(columns.first()?).ok()?.parse().ok()?;
        let column = |n: usize| columns.get(n).copied();
        Some(match self {
            Format::Table => ParsedLine {
                job,
                succeeded: column(4)? == b"0",
                input: Some(column(6)?.to_owned()),
                command: column(7)?.to_owned(),
            },
            _ => ParsedLine {
                job,
                succeeded: column(6)? == b"0" && column(7)? == b"0",
                input: None,
                command: column(8)?.to_owned(),
            },
        })
    }
}

fn parse_json(line: &[u8]) -> Option<ParsedLine> {
    let value: Value = serde_json::from_slice(line).ok()?;
    Some(ParsedLine {
        job: value.get("job")?.as_u64()?,
        succeeded: value.get("exit")?.as_i64() == Some(0),
        input: Some(value.get("input")?.as_str()?.as_bytes().to_owned()),
        command: value.get("command")?.to_string().into_bytes(),
    })
}

fn json_words(words: &[Vec<u8>]) -> Value {
    words.iter().map(|word| Value::from(String::from_utf8_lossy(word))).collect()
}

/// Returns a text in the form of one field of a log line.
fn escaped(text: &[u8]) -> Vec<u8> {
    let mut field = Vec::with_capacity(text.len());
    for &byte in text {
        match byte {
            b'\t' => field.extend_from_slice(b"\\t"),
            b'\n' => field.extend_from_slice(b"\\n"),
            b'\\' => field.extend_from_slice(b"\\\\"),
            _ => field.push(byte),
        }
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_understood_again() {
        let words = [b"echo".to_vec(), b"a\tb\n\\ \xff".to_vec()];
        for format in Format::ALL {
            let entry = |exit| Entry {
                job: 3,
                start: SystemTime::now(),
                seconds: 1.5,
                attempt: 2,
                exit,
                signal: exit.is_none().then_some(9),
                timed_out: false,
                input: b"a\tb\n\\",
                words: &words,
                sent: 0,
                received: 7,
            };
            for exit in [Some(0), Some(3), None] {
                let line = format.line(&entry(exit));
                assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1, "one line");
                let told = format.parse(line.strip_suffix(b"\n").unwrap()).unwrap();
                let input = (format != Format::Joblog).then(|| format.input(b"a\tb\n\\"));
                let expected =
                    ParsedLine { job: 3, succeeded: exit == Some(0), input, command: format.command(&words) };
                assert_eq!(told, expected);
            }
            assert_eq!(format.parse(format.head()), None);
        }
    }
}
