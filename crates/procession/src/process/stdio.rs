//! [`Stdio`]: where a standard stream of a new process leads.

use std::fs::File;
use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex};

use crate::supervisor::options::{SentFds, Stream};
use crate::{Error, Result};

/// Where a standard stream of a new process leads, for [`Builder::stdin`](super::Builder::stdin),
/// [`stdout`](super::Builder::stdout) and [`stderr`](super::Builder::stderr).
///
/// A `Stdio` is created from anything that owns a descriptor, or by one of the functions below. If it is
/// created from a descriptor, the descriptor stays open as long as the [`Builder`](super::Builder) exists. So
/// the reader of a pipe sees no end of file before the builder is dropped.
///
/// ```
/// use std::io::Read;
/// use procession::{Process, process::Stdio};
///
/// let p = Process::builder().stdout(Stdio::piped()).spawn(|| println!("hello"), ())?;
/// let mut said = String::new();
/// p.take_stdout().unwrap().read_to_string(&mut said)?;
/// assert_eq!(said, "hello\n");
/// p.join()?;
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Stdio(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Inherit,
    Null,
    Piped,
    To(Arc<OwnedFd>),
}

impl Stdio {
    /// Returns a `Stdio` for the stream that the calling process has when it spawns. Without any `Stdio`, the
    /// new process gets the stream that main had at its first spawn.
    ///
    /// ```
    /// use procession::{Process, process::Stdio};
    /// Process::builder().stderr(Stdio::inherit()).spawn(|| eprintln!("to the spawner's stream"), ())?.join()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn inherit() -> Stdio {
        Stdio(Kind::Inherit)
    }

    /// Returns a `Stdio` for `/dev/null`. Reading it reaches the end of the input immediately. Everything
    /// that is written to it is discarded.
    ///
    /// ```
    /// use procession::{Process, process::Stdio};
    /// let reads = || std::io::read_to_string(std::io::stdin()).unwrap();
    /// let p = Process::builder().stdin(Stdio::null()).spawn(reads, ())?;
    /// assert_eq!(p.join()?, "");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn null() -> Stdio {
        Stdio(Kind::Null)
    }

    /// Returns a `Stdio` for a new pipe. The spawner gets the other end of the pipe: see
    /// [`Process::take_stdin`](super::Process::take_stdin) and its siblings.
    ///
    /// ```
    /// use procession::{Process, process::Stdio};
    /// let p = Process::builder().stdout(Stdio::piped()).spawn(|| print!("{}", 6 * 7), ())?;
    /// assert_eq!(std::io::read_to_string(p.take_stdout().unwrap())?, "42");
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn piped() -> Stdio {
        Stdio(Kind::Piped)
    }
}

macro_rules! from_owners {
    ($($owner:ty)*) => {
        $(impl From<$owner> for Stdio {
            fn from(owner: $owner) -> Stdio {
                Stdio(Kind::To(Arc::new(owner.into())))
            }
        })*
    };
}

from_owners!(
    OwnedFd File PipeReader PipeWriter
    std::process::ChildStdin std::process::ChildStdout std::process::ChildStderr
    std::net::TcpStream std::os::unix::net::UnixStream
);

/// The spawner's ends of a process's pipes.
#[derive(Default)]
pub(super) struct Pipes {
    pub(super) stdin: Mutex<Option<PipeWriter>>,
    pub(super) stdout: Mutex<Option<PipeReader>>,
    pub(super) stderr: Mutex<Option<PipeReader>>,
}

/// The streams of one process: their descriptions, the descriptors to send to the process, and the pipe ends
/// that the spawner keeps.
#[derive(Default)]
pub(super) struct StreamSetup {
    pub(super) streams: [Stream; 3],
    sent: Vec<Source>,
    pub(super) pipes: Option<Pipes>,
}

enum Source {
    /// A standard stream of this process.
    Own(RawFd),
    Shared(Arc<OwnedFd>),
    New(OwnedFd),
}

impl StreamSetup {
    /// Opens the pipes that these streams need.
    pub(super) fn of(wanted: &[Option<Stdio>; 3]) -> Result<StreamSetup> {
        let mut setup = StreamSetup::default();
        for (number, stdio) in wanted.iter().enumerate() {
            let Some(Stdio(kind)) = stdio else { continue };
            setup.streams[number] = match kind {
                Kind::Null => Stream::Null,
                Kind::Inherit => setup.send(Source::Own(number as RawFd)),
                Kind::To(fd) => setup.send(Source::Shared(fd.clone())),
                Kind::Piped => {
                    let end = setup.pipe(number)?;
                    setup.send(Source::New(end))
                }
            };
        }
        Ok(setup)
    }

    fn send(&mut self, source: Source) -> Stream {
        self.sent.push(source);
        Stream::Sent
    }

    /// Creates a pipe, keeps the spawner's end, and returns the new process's end.
    fn pipe(&mut self, number: usize) -> Result<OwnedFd> {
        let (reader, writer) = std::io::pipe().map_err(|e| Error::os("creating a pipe", &e))?;
        let pipes = self.pipes.get_or_insert_default();
        let (outgoing, place) = match number {
            0 => {
                pipes.stdin = Mutex::new(Some(writer));
                return Ok(reader.into());
            }
            1 => (writer, &mut pipes.stdout),
            _ => (writer, &mut pipes.stderr),
        };
        *place = Mutex::new(Some(reader));
        Ok(outgoing.into())
    }

    /// Returns the descriptors to send, in the order of the streams.
    pub(super) fn sent_fds(&self) -> SentFds {
        let number = |source: &Source| match source {
            Source::Own(number) => *number,
            Source::Shared(fd) => fd.as_raw_fd(),
            Source::New(fd) => fd.as_raw_fd(),
        };
        SentFds(self.sent.iter().map(number).collect())
    }
}
