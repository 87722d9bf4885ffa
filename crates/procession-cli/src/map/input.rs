//! The lines of the input, as they come.

use std::io::{self, BufRead};
use std::sync::mpsc::{Receiver, Sender};

use super::drive::News;

/// So many lines are read before their turn comes: enough to know soon how many there are.
pub const AHEAD: usize = 10_000;

/// Reads a line for each credit, and tells of it; to the end of the input, or until nobody listens.
pub fn read_lines(credit: &Receiver<()>, news: &Sender<News>) {
    let mut input = io::stdin().lock();
    while credit.recv().is_ok() {
        let mut line = Vec::new();
        let read = input.read_until(b'\n', &mut line);
        let (told, over) = match read {
            Ok(0) => (News::End(Ok(())), true),
            Ok(_) => {
                line.pop_if(|last| *last == b'\n');
                (News::Line(line), false)
            }
            Err(e) => (News::End(Err(e)), true),
        };
        if news.send(told).is_err() || over {
            return;
        }
    }
}
