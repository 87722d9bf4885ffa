//! [`Printer`]: prints the output of commands in the requested form.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use super::backlog::{Backlog, Pieces};
use super::job::Job;
use super::outlet::{Kind, Outlet, Target};
use super::plan::OutputPlan;
use super::results::Results;
use super::spool::{Spool, Store};

pub struct Printer {
    plan: OutputPlan,
    store: Store,
    results: Option<Results>,
    pub outlet: Outlet,
    /// Unfinished jobs and their output that is not yet in the outlet.
    outputs: BTreeMap<u64, Output>,
    /// With ordered output: finished jobs whose turn has not come.
    backlog: Backlog,
    /// With ordered output: the number of the job whose turn it is.
    turn: u64,
}

#[derive(Default)]
struct Output {
    tag: Vec<u8>,
    streams: [Option<Stream>; 2],
    received: u64,
}

struct Stream {
    /// Output that waits. With output by lines, this is the start of an incomplete line.
    spool: Spool,
    is_in_line: bool,
    /// A file that gets all output, and its path.
    copy: Option<(File, PathBuf)>,
}

const KINDS: [Kind; 2] = [Kind::Output(Target::Out), Kind::Output(Target::Err)];

impl Printer {
    pub fn new(plan: OutputPlan, outlet: Outlet) -> Printer {
        let results = plan.results.clone().map(Results::new);
        let store = Store::new(plan.tmpdir.clone());
        let (outputs, backlog) = (BTreeMap::new(), Backlog::default());
        Printer { plan, store, results, outlet, outputs, backlog, turn: 1 }
    }

    /// Registers a job that starts. Drops the unprinted output of an earlier attempt.
    pub fn begin(&mut self, job: &Job) -> io::Result<()> {
        let copies = match &self.results {
            Some(results) => results.create(job)?.map(Some),
            None => [None, None],
        };
        let stream = |copy| Some(Stream { spool: self.store.spool(), is_in_line: false, copy });
        let mut tag = if self.plan.tag { job.input() } else { Vec::new() };
        if self.plan.tag {
            tag.push(b'\t');
        }
        self.outputs.insert(job.number, Output { tag, streams: copies.map(stream), ..Output::default() });
        Ok(())
    }

    /// Returns whether a job's output is written as it comes.
    fn is_live(&self, number: u64) -> bool {
        self.plan.by_line && (!self.plan.keep_order || number == self.turn)
    }

    /// Returns whether more of a job's output can be taken in.
    pub fn has_room(&self, number: u64) -> bool {
        !(self.outlet.is_congested() && self.is_live(number))
    }

    /// Returns whether output for standard output waits for the end or the turn of its job.
    pub fn holds_output(&self) -> bool {
        let streams = || self.outputs.values().filter_map(|output| output.streams[0].as_ref());
        streams().any(|stream| stream.spool.length() > 0) || self.backlog.has(KINDS[0])
    }

    /// Takes in output of a job.
    pub fn take(&mut self, number: u64, target: Target, bytes: &[u8]) -> io::Result<()> {
        let is_live = self.is_live(number);
        let Some(output) = self.outputs.get_mut(&number) else { return Ok(()) };
        output.received += bytes.len() as u64;
        let Some(stream) = &mut output.streams[target as usize] else { return Ok(()) };
        if let Some((file, path)) = &mut stream.copy {
            let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
            file.write_all(bytes).map_err(named)?;
        }
        if self.outlet.is_closed(target) {
            return Ok(());
        }
        let tagged = if output.tag.is_empty() { None } else { Some(stream.tagged(&output.tag, bytes)) };
        let bytes = tagged.as_deref().unwrap_or(bytes);
        if !is_live {
            return stream.spool.push(bytes);
        }
        let end = match bytes.iter().rposition(|&byte| byte == b'\n') {
            _ if self.plan.keep_order => bytes.len(),
            newline => newline.map_or(0, |newline| newline + 1),
        };
        let (lines, rest) = bytes.split_at(end);
        if !lines.is_empty() {
            let start = std::mem::replace(&mut stream.spool, self.store.spool());
            push_lines(&mut self.outlet, Kind::Output(target), start, lines)?;
        }
        stream.spool.push(rest)
    }

    /// Returns the number of bytes that a job has printed.
    pub fn received(&self, number: u64) -> u64 {
        self.outputs.get(&number).map_or(0, |output| output.received)
    }

    /// Marks a job as finished. `remark` follows its output.
    pub fn finish(&mut self, number: u64, remark: Option<String>) -> io::Result<()> {
        let output = self.outputs.remove(&number).unwrap_or_default();
        let mut pieces = output.into_pieces();
        if let Some(remark) = remark {
            let mut spool = self.store.spool();
            spool.push(line(&remark).as_bytes())?;
            pieces.push((Kind::Message, spool));
        }
        if !self.plan.keep_order {
            self.print(pieces);
            return Ok(());
        }
        let inserted = self.backlog.insert(number, pieces);
        self.advance();
        inserted
    }

    /// Prints the finished jobs whose turn has come.
    fn advance(&mut self) {
        while let Some((end, pieces)) = self.backlog.take(self.turn) {
            self.print(pieces);
            self.turn = end;
        }
        // Print what the next job has produced before its turn came.
        if self.plan.by_line
            && let Some(output) = self.outputs.get_mut(&self.turn)
        {
            for (kind, stream) in KINDS.into_iter().zip(&mut output.streams) {
                if let Some(stream) = stream {
                    let spool = std::mem::replace(&mut stream.spool, self.store.spool());
                    self.outlet.push_spool(kind, spool);
                }
            }
        }
    }

    fn print(&mut self, pieces: impl IntoIterator<Item = (Kind, Spool)>) {
        pieces.into_iter().for_each(|(kind, spool)| self.outlet.push_spool(kind, spool));
    }

    /// Prints everything that still waits for its turn.
    pub fn finish_all(&mut self) -> io::Result<()> {
        let mut done = Ok(());
        for (number, output) in std::mem::take(&mut self.outputs) {
            done = done.and(self.backlog.insert(number, output.into_pieces()));
        }
        let pieces = self.backlog.take_all();
        self.print(pieces);
        done
    }

    /// Prints a message to standard error.
    pub fn say(&mut self, text: &str) {
        self.outlet.push(Kind::Message, line(text).into_bytes());
    }
}

fn line(text: &str) -> String {
    format!("procession: {text}\n")
}

/// Prints lines whose first one starts with the content of a spool.
fn push_lines(outlet: &mut Outlet, kind: Kind, mut start: Spool, lines: &[u8]) -> io::Result<()> {
    if start.is_in_memory() {
        let start = start.take()?;
        outlet.push(kind, [&start[..], lines].concat());
    } else {
        outlet.push_spool(kind, start);
        outlet.push(kind, lines.to_vec());
    }
    Ok(())
}

impl Output {
    fn into_pieces(self) -> Pieces {
        let pieces = KINDS.into_iter().zip(self.streams);
        let pieces = pieces.filter_map(|(kind, stream)| Some((kind, stream?.spool)));
        pieces.filter(|(_, spool)| spool.length() > 0).collect()
    }
}

impl Stream {
    /// Returns the bytes with the tag at the start of each line.
    fn tagged(&mut self, tag: &[u8], bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::with_capacity(bytes.len() + tag.len());
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            if !self.is_in_line {
                text.extend_from_slice(tag);
            }
            text.extend_from_slice(line);
            self.is_in_line = !line.ends_with(b"\n");
        }
        text
    }
}
