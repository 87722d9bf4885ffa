//! [`Settings`]: the options of a process, checked and encoded for the child.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::stdio::{Stdio, StreamSetup};
use crate::supervisor::options::Options;
use crate::{Error, Result};

/// How a process is created: see [`Builder::start_method`](super::Builder::start_method).
///
/// ```
/// use procession::{Process, process::StartMethod};
/// let p = Process::builder().start_method(StartMethod::Spawn).spawn(|| 6 * 7, ())?;
/// assert_eq!(p.join()?, 42);
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartMethod {
    /// Forks a helper process of the family. This is the default, and the fast method.
    #[default]
    ForkServer,
    /// Executes the program again for each process. The process inherits only the environment and the
    /// standard streams, has a new memory layout, and runs constructors. Spawning takes as long as the
    /// program takes to start.
    Spawn,
}

/// The options of a process. A builder without options has no `Settings`.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub(super) method: StartMethod,
    pub(super) clear_env: bool,
    pub(super) env: Vec<(OsString, Option<OsString>)>,
    pub(super) directory: Option<PathBuf>,
    pub(super) streams: [Option<Stdio>; 3],
    pub(super) memory_limit: Option<u64>,
    pub(super) processors: Option<Vec<u32>>,
    pub(super) nice: Option<i32>,
    pub(super) process_group: Option<i32>,
}

impl Settings {
    /// Returns the options in the form in which they are sent to the child.
    pub(super) fn options(&self, setup: &StreamSetup) -> Result<Options> {
        self.check()?;
        let env = self.env.iter().map(|(name, value)| {
            (name.as_bytes().to_vec(), value.as_ref().map(|value| value.as_bytes().to_vec()))
        });
        Ok(Options {
            fresh: self.method == StartMethod::Spawn,
            credentials: None,
            clear_env: self.clear_env,
            env: env.collect(),
            streams: setup.streams,
            memory_limit: self.memory_limit,
            processors: self.processors.clone(),
            nice: self.nice,
            process_group: self.process_group,
        })
    }

    fn check(&self) -> Result<()> {
        let invalid = |text: String| Err(Error::InvalidArgument(text));
        for (name, value) in &self.env {
            let zero = |text: &OsStr| text.as_bytes().contains(&0);
            if name.is_empty() || name.as_bytes().contains(&b'=') || zero(name) {
                return invalid(format!(
                    "{name:?} cannot be the name of an environment variable: it must have no `=` and no zero byte, and not be empty"
                ));
            }
            if value.as_ref().is_some_and(|value| zero(value)) {
                return invalid(format!("the value of the environment variable {name:?} has a zero byte"));
            }
        }
        if self.directory.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            return invalid("an empty path cannot be a working directory; that of the spawner is `.`".into());
        }
        if self.directory.as_ref().is_some_and(|path| path.as_os_str().as_bytes().contains(&0)) {
            return invalid("a path with a zero byte cannot be a working directory".into());
        }
        match (&self.processors, self.nice, self.process_group) {
            (Some(processors), ..) if processors.is_empty() => {
                invalid("cpu_affinity needs at least one processor".into())
            }
            (_, Some(nice), _) if !(-20..=19).contains(&nice) => {
                invalid(format!("a nice value is from -20 to 19, not {nice}"))
            }
            (.., Some(group)) if group < 0 => invalid(format!(
                "a process group is 0, for one of its own, or a positive number, not {group}"
            )),
            _ => Ok(()),
        }
    }

    /// Returns the working directory as an absolute path.
    pub(super) fn absolute_directory(&self) -> Result<Option<PathBuf>> {
        let Some(path) = &self.directory else { return Ok(None) };
        if path.is_absolute() {
            return Ok(Some(path.clone()));
        }
        let here = std::env::current_dir().map_err(|e| Error::os("finding the working directory", &e))?;
        Ok(Some(here.join(path)))
    }
}
