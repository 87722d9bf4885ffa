//! The writer: brings the results into the order of the input, and writes each once.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, ErrorKind, Write};

use procession::Queue;
use serde::{Deserialize, Serialize};

use super::work::{Batch, News, Outcome};
use crate::interrupt::Interrupt;

/// The writer's account at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    pub items: u64,
    pub lines: u64,
    pub words: u64,
    pub bytes: u64,
    /// Batches that came a second time, because their consumer was killed before it reported them as done.
    pub told_twice: u64,
    /// Batches that were handed out again.
    pub handed_out_again: u64,
    /// Sources that could not be read, with the reasons.
    pub failed: Vec<String>,
    /// Items that never came.
    pub missing: u64,
}

/// Writes until no news is left. Sends to `progress` how many batches have come. Returns `None` if standard output has
/// lost its reader.
pub fn write(
    names: Vec<Vec<u8>>,
    news: Queue<News>,
    progress: Queue<u64>,
) -> procession::Result<Option<Written>> {
    // After Ctrl-C, finished results are still written.
    let _interrupt = Interrupt::listen()?;
    let mut book = Book::new(names, BufWriter::new(io::stdout().lock()));
    let mut batches = 0;
    for heard in &news {
        let heard = heard?;
        batches += u64::from(matches!(heard, News::Done { .. }));
        if unless_left(book.hear(heard))?.is_none() {
            return Ok(None);
        }
        // The reader of the progress may be slow or absent, so the writer does not wait for it.
        let _ = progress.try_put(batches);
    }
    unless_left(book.close())
}

fn unless_left<T>(done: io::Result<T>) -> procession::Result<Option<T>> {
    match done {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(None),
        done => Ok(Some(done?)),
    }
}

struct Book<W> {
    names: Vec<Name>,
    out: W,
    sources: Vec<Progress>,
    /// The source whose items are written now.
    now: usize,
    written: Written,
}

/// The name of a source as it is printed. A name with a newline, a carriage return or a backslash is escaped, and a
/// backslash starts each of its lines, as in `sha256sum`.
struct Name {
    text: Vec<u8>,
    is_escaped: bool,
}

impl Name {
    fn new(name: Vec<u8>) -> Name {
        if !name.iter().any(|byte| b"\n\r\\".contains(byte)) {
            return Name { text: name, is_escaped: false };
        }
        let mut text = Vec::with_capacity(name.len() + 1);
        for byte in name {
            match byte {
                b'\n' => text.extend_from_slice(b"\\n"),
                b'\r' => text.extend_from_slice(b"\\r"),
                b'\\' => text.extend_from_slice(b"\\\\"),
                _ => text.push(byte),
            }
        }
        Name { text, is_escaped: true }
    }
}

/// The progress of a source.
#[derive(Default)]
struct Progress {
    next: u64,
    end: Option<u64>,
    /// Batches that came before their turn.
    waiting: BTreeMap<u64, (Batch, Vec<Outcome>)>,
}

impl<W: Write> Book<W> {
    fn new(names: Vec<Vec<u8>>, out: W) -> Book<W> {
        let sources = names.iter().map(|_| Progress::default()).collect();
        let names = names.into_iter().map(Name::new).collect();
        Book { names, out, sources, now: 0, written: Written::default() }
    }

    fn hear(&mut self, news: News) -> io::Result<()> {
        match news {
            News::Done { batch, outcomes, attempt } => {
                let source = &mut self.sources[batch.source as usize];
                if batch.first < source.next || source.waiting.contains_key(&batch.first) {
                    self.written.told_twice += 1;
                } else {
                    self.written.handed_out_again += u64::from(attempt > 1);
                    source.waiting.insert(batch.first, (batch, outcomes));
                }
            }
            News::End { source, items, failed } => {
                self.sources[source as usize].end = Some(items);
                let name = &self.names[source as usize].text;
                self.written
                    .failed
                    .extend(failed.map(|why| format!("{}: {why}", String::from_utf8_lossy(name))));
            }
        }
        self.write_what_is_due()
    }

    fn write_what_is_due(&mut self) -> io::Result<()> {
        while let Some(source) = self.sources.get_mut(self.now) {
            if let Some((batch, outcomes)) = source.waiting.remove(&source.next) {
                source.next += outcomes.len() as u64;
                self.write_batch(batch, &outcomes)?;
            } else if source.end == Some(source.next) {
                self.now += 1;
            } else {
                break;
            }
        }
        Ok(())
    }

    fn write_batch(&mut self, batch: Batch, outcomes: &[Outcome]) -> io::Result<()> {
        let name = &self.names[batch.source as usize];
        for (number, one) in (batch.first + 1..).zip(outcomes) {
            if name.is_escaped {
                self.out.write_all(b"\\")?;
            }
            self.out.write_all(&hex(&one.digest))?;
            let Outcome { lines, words, bytes, .. } = one;
            match batch.lines {
                true => write!(self.out, "  {words} {bytes}  ")?,
                false => write!(self.out, "  {lines} {words} {bytes}  ")?,
            }
            self.out.write_all(&name.text)?;
            match batch.lines {
                true => writeln!(self.out, ":{number}")?,
                false => writeln!(self.out)?,
            }
            self.written.items += 1;
            self.written.lines += lines;
            self.written.words += words;
            self.written.bytes += bytes;
        }
        Ok(())
    }

    fn close(mut self) -> io::Result<Written> {
        self.out.flush()?;
        for source in &self.sources {
            self.written.missing += source.end.map_or(0, |end| end.saturating_sub(source.next));
        }
        Ok(self.written)
    }
}

fn hex(digest: &[u8; 32]) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(digest) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(source: u32, first: u64, items: u64, attempt: u32) -> News {
        let one = Outcome { digest: [0; 32], lines: 1, words: 2, bytes: 3 };
        let outcomes = (0..items).map(|_| one.clone()).collect();
        News::Done { batch: Batch { source, first, lines: true }, outcomes, attempt }
    }

    fn end(source: u32, items: u64) -> News {
        News::End { source, items, failed: None }
    }

    fn book(news: Vec<News>) -> (Vec<String>, Written) {
        let mut text = Vec::new();
        let mut book = Book::new(vec!["a".into(), "b".into()], &mut text);
        news.into_iter().for_each(|news| book.hear(news).unwrap());
        let written = book.close().unwrap();
        let text = String::from_utf8(text).unwrap();
        (text.lines().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect(), written)
    }

    #[test]
    fn what_comes_too_early_waits_for_its_turn() {
        let news = vec![done(1, 0, 1, 1), done(0, 2, 1, 1), end(1, 1), end(0, 3), done(0, 0, 2, 1)];
        let (lines, written) = book(news);
        assert_eq!(lines, ["a:1", "a:2", "a:3", "b:1"]);
        assert_eq!((written.items, written.words, written.missing), (4, 8, 0));
    }

    #[test]
    fn what_is_told_twice_is_written_once() {
        let news =
            vec![done(0, 0, 1, 1), done(0, 0, 1, 2), done(0, 2, 1, 1), done(0, 2, 1, 2), done(0, 1, 1, 2)];
        let (lines, written) = book(news);
        assert_eq!(lines, ["a:1", "a:2", "a:3"]);
        assert_eq!((written.told_twice, written.handed_out_again), (2, 1));
    }

    #[test]
    fn what_never_came_is_counted() {
        assert_eq!(book(vec![done(0, 0, 1, 1), end(0, 5), end(1, 0)]).1.missing, 4);
    }
}
