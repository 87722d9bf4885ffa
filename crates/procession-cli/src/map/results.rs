//! [`Results`]: the output of each command, in files: `DIR/1/INPUT/stdout`, `.../stderr`, `.../seq`.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::job::Job;

/// Jobs with more arguments are stored under their number.
const MOST_COLUMNS: usize = 8;
/// The maximum length of a directory's name. Most file systems allow 255 bytes.
const NAME_BYTES: usize = 200;

#[derive(Debug)]
pub struct Results {
    directory: PathBuf,
}

impl Results {
    pub fn new(directory: PathBuf) -> Results {
        Results { directory }
    }

    /// Creates the files of one job, or empties them. Returns the files for its output, and their paths.
    pub fn create(&self, job: &Job) -> io::Result<[(File, PathBuf); 2]> {
        let directory = self.directory_of(job);
        let named = |path: &Path, e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        fs::create_dir_all(&directory).map_err(|e| named(&directory, e))?;
        let create = |name: &str| {
            let path = directory.join(name);
            let file = File::create(&path).map_err(|e| named(&path, e))?;
            Ok::<_, io::Error>((file, path))
        };
        let files = [create("stdout")?, create("stderr")?];
        fs::write(directory.join("seq"), job.number.to_string()).map_err(|e| named(&directory, e))?;
        Ok(files)
    }

    fn directory_of(&self, job: &Job) -> PathBuf {
        let mut path = self.directory.clone();
        if job.arguments.is_empty() || job.arguments.len() > MOST_COLUMNS {
            path.push("1");
            path.push(job.number.to_string());
            return path;
        }
        for (column, argument) in (1..).zip(&job.arguments) {
            path.push(column.to_string());
            path.push(std::ffi::OsString::from_vec(name(argument, job.number)));
        }
        path
    }
}

/// Returns an argument as the name of a directory.
fn name(argument: &[u8], job: u64) -> Vec<u8> {
    let mut name = Vec::new();
    for &byte in argument {
        match byte {
            b'/' => name.extend_from_slice(b"\\_"),
            b'\\' => name.extend_from_slice(b"\\\\"),
            b'\t' => name.extend_from_slice(b"\\t"),
            0 => name.extend_from_slice(b"\\0"),
            _ => name.push(byte),
        }
    }
    if name.len() > NAME_BYTES {
        name.truncate(NAME_BYTES);
        name.extend_from_slice(format!("...{job}").as_bytes());
    }
    if matches!(&name[..], b"" | b"." | b"..") {
        name.insert(0, b'\\');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn no_argument_leads_elsewhere() {
        let name = |text: &str| String::from_utf8(name(text.as_bytes(), 7)).unwrap();
        assert_eq!(
            ["a b", "a/b", "..", ".", "", "a\\\t"].map(name),
            ["a b", "a\\_b", "\\..", "\\.", "\\", "a\\\\\\t"]
        );
        assert_eq!(name(&"x".repeat(300)).len(), 204);
    }
}
