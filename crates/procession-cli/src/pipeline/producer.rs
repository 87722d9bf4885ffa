//! A producer: reads sources, and makes batches of their content.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;

use procession::{JoinableQueue, Queue, queue::PutError};

use super::work::{Batch, News, Source, pack};

/// The approximate size of a batch of lines.
const BATCH_BYTES: usize = 64 << 10;

/// Reads sources until there are no more. Returns how many items it has put into the queue.
pub fn produce(
    sources: Queue<Source>,
    work: JoinableQueue<Vec<u8>>,
    news: Queue<News>,
) -> procession::Result<u64> {
    let mut all = 0;
    for source in &sources {
        let source = source?;
        let mut reader = Reader { work: &work, source: &source, items: 0 };
        let failed = reader.read().err().map(|e| e.to_string());
        let items = reader.items;
        all += items;
        news.put(News::End { source: source.number, items, failed })?;
    }
    Ok(all)
}

struct Reader<'a> {
    work: &'a JoinableQueue<Vec<u8>>,
    source: &'a Source,
    items: u64,
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

impl Reader<'_> {
    fn read(&mut self) -> Result<(), Failed> {
        match &self.source.path {
            Some(path) => self.read_from(File::open(OsStr::from_bytes(path))?),
            None => self.read_from(io::stdin().lock()),
        }
    }

    fn read_from(&mut self, mut input: impl Read) -> Result<(), Failed> {
        if self.source.lines {
            return self.read_lines(BufReader::new(input));
        }
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes)?;
        self.put(&bytes, 1)
    }

    fn read_lines(&mut self, mut input: impl BufRead) -> Result<(), Failed> {
        let mut bytes = Vec::new();
        loop {
            let mut lines = 0;
            bytes.clear();
            while bytes.len() < BATCH_BYTES {
                if input.read_until(b'\n', &mut bytes)? == 0 {
                    break;
                }
                lines += 1;
            }
            if lines == 0 {
                return Ok(());
            }
            self.put(&bytes, lines)?;
        }
    }

    fn put(&mut self, bytes: &[u8], items: u64) -> Result<(), Failed> {
        let batch = Batch { source: self.source.number, first: self.items, lines: self.source.lines };
        match self.work.put(pack(batch, bytes)) {
            Ok(()) => self.items += items,
            Err(PutError::NoMemory(..)) => {
                return Err(format!("{} bytes are too many for the shared memory", bytes.len()).into());
            }
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }
}
