//! A consumer: hashes and counts the items of a batch.

use procession::{JoinableQueue, Queue};
use sha2::{Digest, Sha256};

use super::work::{News, Outcome, unpack};

/// Works until no work is left.
pub fn consume(work: JoinableQueue<Vec<u8>>, news: Queue<News>) -> procession::Result<()> {
    for lease in work.iter() {
        let lease = lease?;
        let (batch, bytes) = unpack(&lease)?;
        let outcomes = match batch.lines {
            true => bytes.split_inclusive(|&byte| byte == b'\n').map(look_at).collect(),
            false => vec![look_at(bytes)],
        };
        // The result is sent before the item is done. If a consumer dies in between, the result is sent a
        // second time, but it is never lost.
        news.put(News::Done { batch, outcomes, attempt: lease.attempt() })?;
        lease.done()?;
    }
    Ok(())
}

/// Counts as `wc` does. The end of a line belongs to the line.
fn look_at(bytes: &[u8]) -> Outcome {
    Outcome {
        digest: Sha256::digest(bytes).into(),
        lines: bytes.iter().filter(|&&byte| byte == b'\n').count() as u64,
        words: bytes.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count() as u64,
        bytes: bytes.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lines_and_bytes_are_counted_as_wc_does() {
        let of = |text: &str| {
            let seen = look_at(text.as_bytes());
            (seen.lines, seen.words, seen.bytes)
        };
        assert_eq!(of(""), (0, 0, 0));
        assert_eq!(of("one two\n three"), (1, 3, 14));
        assert_eq!(of("\n\n"), (2, 0, 2));
    }
}
