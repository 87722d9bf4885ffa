//! [`Printer`]: prints the output of commands in the requested form.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};

use super::job::Job;
use super::outlet::{Outlet, Target};
use super::plan::OutputPlan;
use super::results::Results;
use super::spool::{Spool, Store};

/// A longer line is printed before it is complete.
const LINE_BYTES: usize = 1 << 20;

pub struct Printer {
    plan: OutputPlan,
    store: Store,
    results: Option<Results>,
    pub outlet: Outlet,
    /// Output that is not yet in the outlet, by job number.
    outputs: BTreeMap<u64, Output>,
    /// With ordered output: the number of the job whose turn it is.
    turn: u64,
}

#[derive(Default)]
struct Output {
    tag: Vec<u8>,
    streams: [Option<Stream>; 2],
    /// The message that follows the job's output.
    remark: Vec<u8>,
    has_ended: bool,
    received: u64,
}

struct Stream {
    spool: Spool,
    /// With output by lines: the start of an incomplete line.
    partial: Vec<u8>,
    is_in_line: bool,
    copy: Option<File>,
}

impl Printer {
    pub fn new(plan: OutputPlan, outlet: Outlet) -> Printer {
        let results = plan.results.clone().map(Results::new);
        let store = Store::new(plan.tmpdir.clone());
        Printer { plan, store, results, outlet, outputs: BTreeMap::new(), turn: 1 }
    }

    /// Registers a job that starts. Drops the unprinted output of an earlier attempt.
    pub fn begin(&mut self, job: &Job) -> io::Result<()> {
        let copies = match &self.results {
            Some(results) => results.create(job)?.map(Some),
            None => [None, None],
        };
        let stream =
            |copy| Some(Stream { spool: self.store.spool(), partial: Vec::new(), is_in_line: false, copy });
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

    /// Takes in output of a job.
    pub fn take(&mut self, number: u64, target: Target, bytes: &[u8]) -> io::Result<()> {
        let is_live = self.is_live(number);
        let Some(output) = self.outputs.get_mut(&number) else { return Ok(()) };
        output.received += bytes.len() as u64;
        let Some(stream) = &mut output.streams[target as usize] else { return Ok(()) };
        if let Some(copy) = &mut stream.copy {
            copy.write_all(bytes)?;
        }
        let tagged = if output.tag.is_empty() { None } else { Some(stream.tagged(&output.tag, bytes)) };
        let bytes = tagged.as_deref().unwrap_or(bytes);
        if !is_live {
            return stream.spool.push(bytes);
        }
        stream.partial.extend_from_slice(bytes);
        let end = match stream.partial.iter().rposition(|&byte| byte == b'\n') {
            Some(newline) if !self.plan.keep_order => newline + 1,
            None if !self.plan.keep_order && stream.partial.len() < LINE_BYTES => 0,
            _ => stream.partial.len(),
        };
        let rest = stream.partial.split_off(end);
        let lines = std::mem::replace(&mut stream.partial, rest);
        self.outlet.push(target, lines);
        Ok(())
    }

    /// Returns the number of bytes that a job has printed.
    pub fn received(&self, number: u64) -> u64 {
        self.outputs.get(&number).map_or(0, |output| output.received)
    }

    /// Marks a job as finished. `remark` follows its output.
    pub fn finish(&mut self, number: u64, remark: Option<String>) {
        let output = self.outputs.entry(number).or_default();
        output.has_ended = true;
        output.remark = remark.map_or(Vec::new(), |text| format!("procession: {text}\n").into_bytes());
        if self.plan.keep_order {
            self.advance();
        } else if let Some(output) = self.outputs.remove(&number) {
            self.print(output);
        }
    }

    /// Prints the finished jobs whose turn has come.
    fn advance(&mut self) {
        while self.outputs.get(&self.turn).is_some_and(|output| output.has_ended) {
            if let Some(output) = self.outputs.remove(&self.turn) {
                self.print(output);
            }
            self.turn += 1;
        }
        // Print what the next job has produced before its turn came.
        if self.plan.by_line
            && let Some(output) = self.outputs.get_mut(&self.turn)
        {
            for (target, stream) in [Target::Out, Target::Err].into_iter().zip(&mut output.streams) {
                if let Some(stream) = stream {
                    let spool = std::mem::replace(&mut stream.spool, self.store.spool());
                    self.outlet.push_spool(target, spool);
                }
            }
        }
    }

    fn print(&mut self, output: Output) {
        for (target, stream) in [Target::Out, Target::Err].into_iter().zip(output.streams) {
            if let Some(stream) = stream {
                self.outlet.push_spool(target, stream.spool);
                self.outlet.push(target, stream.partial);
            }
        }
        self.outlet.push(Target::Err, output.remark);
    }

    /// Prints everything that still waits for its turn.
    pub fn finish_all(&mut self) {
        for output in std::mem::take(&mut self.outputs).into_values() {
            self.print(output);
        }
    }

    /// Prints a message to standard error.
    pub fn say(&mut self, text: &str) {
        self.outlet.push(Target::Err, format!("procession: {text}\n").into_bytes());
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
